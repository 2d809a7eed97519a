// What became of every request of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace image_variations::client {

// Times are since the run's begin.
struct RequestRecord {
  absl::Duration due = {};
  absl::Duration sent = {};   // the first attempt, at `due` or a little later
  absl::Duration ended = {};  // the last attempt's answer
  bool answered = false;      // the last attempt; what follows is of use only then
  bool given_up = false;      // cancelled by the caller on purpose
  int attempts = 0;
  // Of attempts that followed a refusal: those that the server took.
  int retries_admitted = 0;

  // Of the last attempt.
  absl::Status status = {};
  std::string reason = {};  // of ErrorInfo, else the code's name; empty: OK
  absl::Duration time_to_answer = {};
  bool admitted = false;
  bool refused = false;                // by the service itself, without admission
  absl::Duration predicted_time = {};  // from admission to the end; zero: the server did not say
  absl::Duration real_time = {};
  int generated = 0, filtered = 0, failed = 0;  // samples
  int64_t unet_rows = 0;
  double mean_batch_rows = 0;

  // From when it was due, not from when the sender got round to it: what a late sender holds back
  // would otherwise be left out of the latencies (coordinated omission).
  absl::Duration latency() const { return ended - due; }
  bool finished() const { return answered && status.ok(); }
};

struct History {
  std::vector<RequestRecord> records = {};  // in the order of their sending
  absl::Duration elapsed = {};              // to the last answer, or the end of sending if later
  bool interrupted = false;

  // Answers to something that was not sent or had its answer, and answers with the id of another
  // request.
  int64_t surplus_answers = 0, mistaken_answers = 0;
  // Variations with an equal request before them, and those with other bytes than that.
  int64_t compared_variations = 0, differing_variations = 0;
};

}  // namespace image_variations::client
