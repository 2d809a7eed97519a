// Ends a server whose device answers no more.
#pragma once

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/heartbeat.h"

namespace image_variations {

// Looks at the engine's heartbeat from a thread of its own, as the engine's thread is the one that
// hangs. What it is made of must outlive it.
class Watchdog {
 public:
  // `on_hung` is called once, with DEADLINE_EXCEEDED, when a call has run for `patience` and far
  // longer than predicted. Looks every `interval`; infinite: only when Look() is called.
  Watchdog(const Heartbeat&, const Clock&, absl::Duration patience, absl::Duration interval,
           absl::AnyInvocable<void(absl::Status)> on_hung);
  ~Watchdog();

  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // False: a call hangs, now or before.
  bool Look() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run(absl::Duration interval) ABSL_LOCKS_EXCLUDED(mutex_);

  const Heartbeat& heartbeat_;
  const Clock& clock_;
  const absl::Duration patience_;
  absl::AnyInvocable<void(absl::Status)> on_hung_;
  absl::Mutex mutex_;
  bool is_hung_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace image_variations
