#include "client/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace image_variations::client {
namespace {

constexpr double kConfidence = 0.99;
constexpr double kNegligible = 1e-17;

double LogFactorial(int64_t n) { return std::lgamma(static_cast<double>(n) + 1); }

bool IsEnough(int64_t requests, double percent, int64_t late) {
  return BinomialCdf(late, requests, 1 - percent / 100) <= 1 - kConfidence;
}

}  // namespace

template <typename Value>
Value Percentile(const std::vector<Value>& ascending, double percent) {
  const double count = static_cast<double>(ascending.size());
  // 0.99 * 100 is 99.00000000000001 in double precision: not a reason to take the next rank.
  const double rank = std::ceil(percent / 100 * count - 1e-9);
  return ascending[static_cast<size_t>(std::clamp(rank, 1.0, count)) - 1];
}

template absl::Duration Percentile(const std::vector<absl::Duration>&, double);
template double Percentile(const std::vector<double>&, double);

// From the likeliest of the terms to both sides, each by its neighbour, until they add nothing.
double BinomialCdf(int64_t successes, int64_t trials, double probability) {
  const double odds = probability / (1 - probability);
  const int64_t last = std::min(successes, trials);
  const auto mode = static_cast<int64_t>(probability * static_cast<double>(trials + 1));
  const int64_t start = std::min(last, mode);
  const double largest =
      std::exp(LogFactorial(trials) - LogFactorial(start) - LogFactorial(trials - start) +
               static_cast<double>(start) * std::log(probability) +
               static_cast<double>(trials - start) * std::log1p(-probability));
  double sum = largest;
  double term = largest;
  for (int64_t k = start; k > 0 && term > kNegligible * sum; --k) {
    term *= static_cast<double>(k) / (static_cast<double>(trials - k + 1) * odds);
    sum += term;
  }
  term = largest;
  for (int64_t k = start; k < last && term > kNegligible * sum; ++k) {
    term *= static_cast<double>(trials - k) * odds / static_cast<double>(k + 1);
    sum += term;
  }
  return std::min(sum, 1.0);
}

int64_t RequestsNeeded(double percent, int64_t late) {
  int64_t enough = late + 1;
  while (!IsEnough(enough, percent, late)) enough *= 2;
  int64_t too_few = late;
  while (enough - too_few > 1) {
    const int64_t middle = too_few + (enough - too_few) / 2;
    (IsEnough(middle, percent, late) ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace image_variations::client
