// The load generator: sends what is due, whatever the server does, and writes down what comes back.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "client/bench/history.h"
#include "client/bench/load_target.h"
#include "client/bench/pacer.h"
#include "client/bench/summary.h"
#include "client/client.h"

namespace image_variations::client {

struct LoadOptions {
  PacerOptions pacer = {};
  absl::Duration deadline = absl::InfiniteDuration();  // of each request, from when it is due
  RetryPolicy retry = {.max_attempts = 1};             // of refused requests
  double cancel_share = 0;   // of the requests, which the caller gives up at some time of their run
  bool check_bytes = false;  // remembers the pictures of each distinct request
  // With a latency, open and closed loops run beyond their duration until enough requests have
  // ended to judge them: as many as RequestsNeeded, given those that were late; but not for long if
  // it is clear that they miss it.
  LoadTargets targets = {};
};

struct LoadProgress {
  absl::Duration elapsed = {};
  int64_t sent = 0, running = 0, finished = 0, refused = 0;
};

struct LoadWatch {
  const std::atomic<bool>* interrupted = nullptr;  // set: everything is cancelled, the run ends
  std::function<void(const LoadProgress&)> on_progress = {};  // about ten times a second
};

// Runs to the last answer. Each sending takes one of `requests`, drawn by the seed. Needs no thread
// of its own: time passes in `target` alone.
History RunLoad(const LoadOptions&, const std::vector<VariationRequest>& requests,
                LoadTarget& target, const LoadWatch& = {});

}  // namespace image_variations::client
