#include "pipeline/engine/pace.h"

#include <algorithm>
#include <cmath>

namespace image_variations {
namespace {

constexpr int kWindow = 8;     // ticks: chance evens out in a window as in a request's run
constexpr double kHiccup = 3;  // predictions
constexpr double kWeightOfNews =
    0.125;  // of one more window, as TCP's round-trip estimate (RFC 6298)
constexpr double kWeightOfTick = kWeightOfNews / kWindow;
constexpr double kLeast = 0.5, kMost = 4;

constexpr double kDeviations = 2;
// More caution costs more than it saves: calls become too narrow to carry the load.
constexpr double kMostMargin = 0.2;

}  // namespace

void Pace::Observe(absl::Duration predicted, absl::Duration real) {
  const double seconds = absl::ToDoubleSeconds(predicted);
  if (seconds <= 0) return;
  const double real_seconds = std::min(absl::ToDoubleSeconds(real), kHiccup * seconds);
  predicted_ += seconds;
  real_ += real_seconds;
  chance_ += kWeightOfTick * (std::abs(real_seconds - factor_ * seconds) - chance_);
  if (++ticks_ < kWindow) return;
  const double news = std::clamp(real_ / predicted_, kLeast, kMost);
  deviation_ += kWeightOfNews * (std::abs(news / factor_ - 1) - deviation_);
  factor_ += kWeightOfNews * (news - factor_);
  predicted_ = real_ = 0;
  ticks_ = 0;
}

Margin Pace::margin() const {
  return {std::min(kDeviations * deviation_, kMostMargin), kDeviations * chance_};
}

}  // namespace image_variations
