// Plays the step batcher's future at the measured costs: when each sample begins and has its
// picture, if nothing unforeseen comes.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include "absl/types/span.h"
#include "pipeline/engine/call_width.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/job.h"

namespace image_variations {

// So many samples of one request that are alike. All times are in seconds from the forecast's now.
struct ForecastSamples {
  double place = 0;  // effective deadline: who comes first
  double deadline = std::numeric_limits<double>::infinity();
  double arrival = 0;  // not before it
  LatentSize size{};
  int steps_left = 1;  // 0: waits for the VAE alone
  int rows = 1;
  bool needs_embedding = false;  // the first of them, for all
  int count = 1;
};

struct ForecastTimes {
  double begin = 0;  // of the first sample's next step
  double end = 0;    // of the last one's picture
};

// Thread-compatible; keeps tables, so one object is meant for many questions at one state of costs.
class Forecast {
 public:
  Forecast(const CostModel& cost, int max_rows) : cost_(cost), max_rows_(max_rows) {}

  // `present`: in order of place. `expected` (in order of arrival) join when their time has come.
  // As a Future, all of them. The answer has present, then expected.
  std::vector<ForecastTimes> Play(absl::Span<const ForecastSamples> present,
                                  absl::Span<const ForecastSamples> expected = {});

  const SampleTimes& times(LatentSize size);
  const CostModel& cost() const { return cost_; }
  // By which its answers may fall short.
  Margin margin() const { return cost_.pace.margin(); }

 private:
  const CostModel& cost_;
  const int max_rows_;
  std::map<int64_t, SampleTimes> times_;  // by area
};

}  // namespace image_variations
