// Calls the server's own port from outside, as a stranger would: an open port that nobody answers
// looks healthy from within.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace image_variations {

// Connects to HOST:PORT, a number, and does what the port's first answer takes: with TLS the
// handshake, which needs no certificate of a caller's, else the exchange of HTTP/2 settings.
absl::Status DialOnce(const std::string& address, bool uses_tls, absl::Duration timeout);

struct SelfDialOptions {
  std::string address;
  bool uses_tls = false;
  absl::Duration interval = absl::Seconds(5);
  absl::Duration timeout = absl::Seconds(3);
  int failures_to_notice = 3;  // in a row
};

// Dials from a thread of its own until it is destroyed.
class SelfDial {
 public:
  // `on_change` hears from that thread when the port stops answering and when it answers again.
  SelfDial(SelfDialOptions, std::function<void(bool is_reachable)> on_change);
  ~SelfDial();
  SelfDial(const SelfDial&) = delete;
  SelfDial& operator=(const SelfDial&) = delete;

 private:
  void Run();

  const SelfDialOptions options_;
  const std::function<void(bool is_reachable)> on_change_;
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace image_variations
