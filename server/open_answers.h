// Calls that were let in and have not been sent all of their answer: pictures may wait for a slow
// reader long after the engine is done with them.
#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace image_variations {

// Thread-safe; outlives its answers.
class OpenAnswers {
 public:
  struct Closer {
    void operator()(OpenAnswers* answers) const { answers->Close(); }
  };
  using Answer = std::unique_ptr<OpenAnswers, Closer>;  // open until it is destroyed

  Answer Open() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    ++open_;
    return Answer(this);
  }

  // False when some are open after `timeout`.
  bool WaitUntilNone(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto is_none = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return open_ == 0; };
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&is_none), timeout);
  }

 private:
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    --open_;
  }

  mutable absl::Mutex mutex_;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace image_variations
