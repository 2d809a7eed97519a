#include "server/watchdog.h"

#include <utility>

namespace image_variations {

Watchdog::Watchdog(const Heartbeat& heartbeat, const Clock& clock, absl::Duration patience,
                   absl::Duration interval, absl::AnyInvocable<void(absl::Status)> on_hung)
    : heartbeat_(heartbeat), clock_(clock), patience_(patience), on_hung_(std::move(on_hung)) {
  thread_ = std::thread([this, interval] { Run(interval); });
}

Watchdog::~Watchdog() {
  {
    absl::MutexLock lock(&mutex_);
    is_closing_ = true;
  }
  thread_.join();
}

bool Watchdog::Look() {
  const auto hung = heartbeat_.HungCall(clock_.Now(), patience_);
  {
    absl::MutexLock lock(&mutex_);
    if (!hung || is_hung_) return !is_hung_;
    is_hung_ = true;
  }
  on_hung_(absl::DeadlineExceededError(*hung));
  return false;
}

void Watchdog::Run(absl::Duration interval) {
  const auto is_closing = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return is_closing_; };
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&is_closing), interval)) return;
    }
    if (!Look()) return;
  }
}

}  // namespace image_variations
