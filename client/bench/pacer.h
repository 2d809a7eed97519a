// When requests are due.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "absl/time/time.h"
#include "client/bench/random_stream.h"

namespace image_variations::client {

enum class Scenario {
  kOpenLoop,    // Poisson arrivals: callers do not know of each other, nor wait for the server
  kClosedLoop,  // so many callers, each asks again as soon as it is answered
  kOffline,     // everything at once
};

struct PacerOptions {
  Scenario scenario = Scenario::kOpenLoop;
  double rate = 1;      // of the open loop: requests per second
  int concurrency = 1;  // of the closed loop: callers
  // Nothing is due from then on (unless `open_end`), or after so many; offline needs the count.
  absl::Duration duration = absl::InfiniteDuration();
  int64_t max_requests = INT64_MAX;
  bool open_end = false;  // goes on until Stop()
  uint64_t seed = 1;
};

// Times are since the run's begin. Open loops of one seed have the same arrivals at every rate, but
// for the unit of time. Thread-compatible; bookkeeping only.
class Pacer {
 public:
  explicit Pacer(const PacerOptions&);

  // When the next request is due; absent: none ever, or none before another has ended.
  std::optional<absl::Duration> next() const;
  void Pop();                       // the next one was sent
  void OnEnded(absl::Duration at);  // a request has got its last answer
  void Stop();                      // nothing is due any more

 private:
  void PushArrival();

  const PacerOptions options_;
  RandomStream random_;
  absl::Duration arrival_ = absl::ZeroDuration();
  int64_t sent_ = 0;
  bool stopped_ = false;
  std::deque<absl::Duration> due_;  // ascending
};

}  // namespace image_variations::client
