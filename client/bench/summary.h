// What a history says.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/bench/history.h"

namespace image_variations::client {

// What the server has to reach.
struct LoadTargets {
  absl::Duration latency = absl::InfiniteDuration();
  double percentile = 99;
  absl::Duration min_duration = absl::ZeroDuration();
  int64_t min_requests = 0;  // beside those that RequestsNeeded asks for
  // When a reply is of use: the request's deadline. Infinite: `latency` counts.
  absl::Duration deadline = absl::InfiniteDuration();
};

// INVALID unless every rule of LoadGen's server scenario holds. A request that was refused or
// failed is late: nobody is helped by a quick refusal.
struct Verdict {
  bool valid = false;
  std::vector<std::string> problems = {};  // why not; "latency p99 is 2.41 s, target 2 s"
};

struct Distribution {
  int64_t count = 0;  // 0: no figures
  absl::Duration mean = {}, p50 = {}, p90 = {}, p95 = {}, p99 = {}, max = {};
};

struct LoadSummary {
  absl::Duration elapsed = {};
  bool interrupted = false;
  int64_t sent = 0, finished = 0, in_time = 0;
  int64_t generated = 0, filtered = 0, failed_samples = 0;
  double sent_per_second = 0, finished_per_second = 0, variations_per_second = 0;
  double goodput = 0;  // finished in time, per second

  Distribution latency = {};   // of the finished ones, from when they were due
  Distribution lateness = {};  // of sending: the load generator's own
  std::map<std::string, Distribution> refusals = {};  // reason -> time to answer
  std::vector<absl::Duration> refusal_times = {};     // to answer, of all of them, ascending
  std::map<std::string, int64_t> failures = {};       // reason -> requests
  int64_t given_up = 0;                               // cancelled by the caller
  int64_t retries = 0, retries_admitted = 0;

  // |predicted - real| / real time from admission to the end, of the finished ones.
  std::optional<double> prediction_error_median = {}, prediction_error_p90 = {};
  // Estimated from the requests' own means: exact if a request's calls all have the same size.
  std::optional<double> rows_per_unet_call = {};

  // The client-side history: zero in a right one.
  int64_t unanswered = 0, surplus_answers = 0, mistaken_answers = 0;
  int64_t compared_variations = 0, differing_variations = 0;
  bool history_is_right() const {
    return (unanswered == 0 || interrupted) && surplus_answers == 0 && mistaken_answers == 0 &&
           differing_variations == 0;
  }

  std::optional<Verdict> verdict = {};  // absent: there was no target
};

LoadSummary Summarize(const History&, const LoadTargets&);

// "1.43 s", "312 ms", "0.4 ms": three digits.
std::string FormatTime(absl::Duration);

}  // namespace image_variations::client
