#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace image_variations::client {

struct RateSearchOptions {
  double first = 1;         // requests per second
  double precision = 0.05;  // stop when the lowest invalid rate is at most so much higher
  int max_probes = 16;
};

// The highest rate that `probe` finds valid: doubles or halves until there are a valid and an
// invalid rate, then bisects between them. Rates have three digits. NOT_FOUND: all rates that
// were tried are valid, or none. An error of `probe` ends the search.
absl::StatusOr<double> FindHighestValidRate(
    const RateSearchOptions&, absl::FunctionRef<absl::StatusOr<bool>(double rate)> probe);

}  // namespace image_variations::client
