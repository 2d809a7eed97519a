#include "pipeline/engine/cost_model.h"

namespace image_variations {
namespace {

constexpr double kWeightOfNews = 0.1;  // of one more measurement

}  // namespace

void StageCost::Observe(int64_t latent_area, absl::Duration time) {
  const double seconds = absl::ToDoubleSeconds(time);
  const auto [it, is_new] = tracks_.try_emplace(latent_area);
  Track& track = it->second;
  if (is_new) {
    track.seconds = seconds;
    return;
  }
  switch (track.filter.Judge(seconds, track.seconds)) {
    case OutlierFilter::Verdict::kHiccup:
      return;
    case OutlierFilter::Verdict::kSlowerFromNowOn:
      track.seconds = seconds;
      return;
    case OutlierFilter::Verdict::kUsual:
      track.seconds += kWeightOfNews * (seconds - track.seconds);
  }
}

absl::Duration StageCost::Predict(int64_t latent_area) const {
  if (tracks_.empty()) return absl::ZeroDuration();
  auto nearest = tracks_.lower_bound(latent_area);
  if (nearest == tracks_.end()) --nearest;
  const double scale = static_cast<double>(latent_area) / static_cast<double>(nearest->first);
  return absl::Seconds(scale * nearest->second.seconds);
}

}  // namespace image_variations
