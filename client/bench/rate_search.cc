#include "client/bench/rate_search.h"

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace image_variations::client {
namespace {

double RoundToThreeDigits(double rate) {
  const double unit = std::pow(10, std::floor(std::log10(rate)) - 2);
  return std::round(rate / unit) * unit;
}

}  // namespace

absl::StatusOr<double> FindHighestValidRate(
    const RateSearchOptions& options, absl::FunctionRef<absl::StatusOr<bool>(double rate)> probe) {
  double highest_valid = 0, lowest_invalid = 0;  // 0: none yet
  double rate = RoundToThreeDigits(options.first);
  for (int probes = 0; probes < options.max_probes; ++probes) {
    const absl::StatusOr<bool> valid = probe(rate);
    if (!valid.ok()) return valid.status();
    (*valid ? highest_valid : lowest_invalid) = rate;
    if (lowest_invalid == 0) {
      rate = RoundToThreeDigits(2 * highest_valid);
    } else if (highest_valid == 0) {
      rate = RoundToThreeDigits(lowest_invalid / 2);
    } else if (lowest_invalid <= highest_valid * (1 + options.precision)) {
      return highest_valid;
    } else {
      rate = RoundToThreeDigits(std::sqrt(highest_valid * lowest_invalid));
      if (rate == highest_valid || rate == lowest_invalid) return highest_valid;
    }
  }
  if (highest_valid == 0) {
    return absl::NotFoundError(
        absl::StrFormat("no rate down to %g requests per second is valid", lowest_invalid));
  }
  if (lowest_invalid == 0) {
    return absl::NotFoundError(
        absl::StrFormat("every rate up to %g requests per second is valid", highest_valid));
  }
  return highest_valid;
}

}  // namespace image_variations::client
