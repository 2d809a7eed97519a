// What one caller may have in the server at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace image_variations {

// 0: no limit.
struct CallerLimitOptions {
  int max_requests = 0;
  int64_t max_unet_rows = 0;
};

class CallerLimits;

// A caller's share, given back on destruction. Movable; thread-compatible.
class CallerTicket {
 public:
  CallerTicket() = default;
  CallerTicket(CallerTicket&& other) noexcept { *this = std::move(other); }
  CallerTicket& operator=(CallerTicket&& other) noexcept;
  ~CallerTicket() { Leave(); }

 private:
  friend class CallerLimits;
  void Leave();

  CallerLimits* limits_ = nullptr;
  std::string caller_;
  int64_t unet_rows_ = 0;
};

// A gate in front of admission's, by caller. Thread-safe; outlives its tickets.
class CallerLimits {
 public:
  explicit CallerLimits(CallerLimitOptions options) : options_(options) {}

  // RESOURCE_EXHAUSTED, CALLER_LIMIT with QuotaFailure; with RetryInfo when it is what the caller
  // has running that is in the way.
  absl::StatusOr<CallerTicket> Enter(const std::string& caller, int64_t unet_rows)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class CallerTicket;
  struct Share {
    int requests = 0;
    int64_t unet_rows = 0;
  };

  const CallerLimitOptions options_;
  absl::Mutex mutex_;
  std::map<std::string, Share> shares_ ABSL_GUARDED_BY(mutex_);  // of callers with any
};

}  // namespace image_variations
