// The client's time as tests own it: waiting takes none and is written down.
#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client.h"

namespace image_variations::client {

// Must outlive the clients that use it. Thread-compatible. Starts at the real time, because gRPC
// measures deadlines by that.
class VirtualTime {
 public:
  void Use(ConnectOptions& options) {
    options.now = [this] { return start_ + slept_; };
    options.sleep = [this](absl::Duration wait) { slept_ += wait; };
  }
  absl::Duration slept() const { return slept_; }
  absl::Time start() const { return start_; }

 private:
  absl::Time start_ = absl::Now();
  absl::Duration slept_ = absl::ZeroDuration();
};

}  // namespace image_variations::client
