// Shows other threads what the engine's thread is waiting for.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace image_variations {

// Thread-safe.
class Heartbeat {
 public:
  // The runner is called now; `predicted`: how long it should take, zero when nobody knows.
  void BeginCall(absl::string_view stage, absl::Time now, absl::Duration predicted)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    call_ = Call{std::string(stage), now, predicted};
  }
  void EndCall() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    call_.reset();
  }

  // Which call has been running for `patience`, and twenty times as long as predicted.
  std::optional<std::string> HungCall(absl::Time now, absl::Duration patience) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!call_ || now - call_->begin < std::max(patience, 20 * call_->predicted)) {
      return std::nullopt;
    }
    return absl::StrCat(call_->stage, " has run for ", absl::FormatDuration(now - call_->begin),
                        ", predicted ", absl::FormatDuration(call_->predicted));
  }

 private:
  struct Call {
    std::string stage;
    absl::Time begin;
    absl::Duration predicted;
  };
  mutable absl::Mutex mutex_;
  std::optional<Call> call_ ABSL_GUARDED_BY(mutex_);
};

// The heartbeat of one call of the runner; its prediction is added to `sum`.
class Beat {
 public:
  Beat(Heartbeat& heartbeat, absl::string_view stage, absl::Time now, absl::Duration predicted,
       absl::Duration* sum)
      : heartbeat_(heartbeat) {
    *sum += predicted;
    heartbeat_.BeginCall(stage, now, predicted);
  }
  ~Beat() { heartbeat_.EndCall(); }
  Beat(const Beat&) = delete;
  Beat& operator=(const Beat&) = delete;

 private:
  Heartbeat& heartbeat_;
};

}  // namespace image_variations
