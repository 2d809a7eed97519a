// The only way to the time: code that decides by time takes a `const Clock&`, so that tests and the
// simulator own it.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace image_variations {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace image_variations
