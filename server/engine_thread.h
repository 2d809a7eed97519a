// The thread that owns the model: makes the runner, warms it up and turns the engine's loop.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/engine.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// Called once, on the engine thread: thread count and modes of the tensor library belong to it.
using ModelRunnerFactory = absl::AnyInvocable<absl::StatusOr<std::unique_ptr<ModelRunner>>() &&>;

class EngineThread {
 public:
  // Begins to load. `clock` and `observer` must outlive it.
  EngineThread(EngineOptions, ModelRunnerFactory, const Clock& clock, EngineObserver& observer);
  // Ends after the running tick; open samples are answered with CANCELLED.
  ~EngineThread();

  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Blocks until the model is loaded and has run once. The engine lives as long as this object.
  // FAILED_PRECONDITION: safety is required and the model has no safety checker. Else what the
  // factory or the warm-up said.
  absl::StatusOr<Engine*> WaitUntilWarm() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run(ModelRunnerFactory) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::unique_ptr<Engine>> MakeWarmEngine(ModelRunnerFactory);
  void Publish(absl::StatusOr<Engine*>) ABSL_LOCKS_EXCLUDED(mutex_);

  const EngineOptions options_;
  const Clock& clock_;
  EngineObserver& observer_;
  std::atomic<bool> stopping_ = false;
  absl::Mutex mutex_;
  bool is_known_ ABSL_GUARDED_BY(mutex_) = false;
  absl::StatusOr<Engine*> engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace image_variations
