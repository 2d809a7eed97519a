// The picture of a load test: latency and goodput against the offered rate.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/bench/summary.h"

namespace image_variations::client {

struct PlottedRun {
  double rate = 0;  // offered, requests per second
  Distribution latency = {};
  double goodput = 0;
  bool valid = true;
};

struct LatencyPlot {
  std::string subtitle = {};          // what was asked of whom
  std::vector<PlottedRun> runs = {};  // any order; at least one
  absl::Duration target = absl::InfiniteDuration();
  std::string target_name = {};  // "p99 within 2 s"
  std::optional<double> highest_valid_rate = {};
};

// An SVG file.
std::string DrawLatencyPlot(LatencyPlot);

}  // namespace image_variations::client
