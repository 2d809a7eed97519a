// Figures that claim no more than was measured.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace image_variations::client {

// The least value that `percent` of all are at or below (nearest rank): always one that was
// measured. `ascending` must not be empty; percent in (0, 100].
template <typename Value>
Value Percentile(const std::vector<Value>& ascending, double percent);

extern template absl::Duration Percentile(const std::vector<absl::Duration>&, double);
extern template double Percentile(const std::vector<double>&, double);

// P[X <= successes] of a binomial distribution; 0 < probability < 1.
double BinomialCdf(int64_t successes, int64_t trials, double probability);

// MLPerf LoadGen's early stopping: how many requests it takes, `late` of which missed the target,
// to say with 99 % confidence that `percent` of all requests would meet it. With fewer, luck is too
// good an explanation. (mlcommons/inference, loadgen/early_stopping.cc, with tolerance 0.)
int64_t RequestsNeeded(double percent, int64_t late);

}  // namespace image_variations::client
