// A few threads for work that would hold up gRPC's or the engine's: decoding and encoding pictures.
#pragma once

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace image_variations {

// Tasks begin in the order in which they came. The line has no limit of its own: admission bounds
// what comes. Thread-safe.
class WorkerPool {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  explicit WorkerPool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  // Runs what is in line, then returns.
  ~WorkerPool() {
    {
      absl::MutexLock lock(&mutex_);
      closing_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Run(Task task) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto is_due = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return closing_ || !tasks_.empty();
    };
    while (true) {
      Task task;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(&is_due));
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      std::move(task)();
    }
  }

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace image_variations
