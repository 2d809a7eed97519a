#include "pipeline/engine/step_cost.h"

#include <algorithm>

namespace image_variations {
namespace {

constexpr double kForgetting =
    0.98;  // weight of the past after one more observation: about the last 50 calls count
constexpr double kForgettingWhenSlower = 0.1;
constexpr double kWorthwhile = 1.03;   // of the best time per row
constexpr double kLeastSpread = 0.01;  // mean square of rows beside their mean

}  // namespace

void StepCostModel::Sums::Forget(double share_kept) {
  for (double* sum : {&weight, &rows, &seconds, &rows_rows, &rows_seconds}) *sum *= share_kept;
}

void StepCostModel::Sums::Add(double more_rows, double more_seconds) {
  weight += 1;
  rows += more_rows;
  seconds += more_seconds;
  rows_rows += more_rows * more_rows;
  rows_seconds += more_rows * more_seconds;
}

void StepCostModel::Observe(int64_t latent_area, int rows, absl::Duration time) {
  if (!tracks_.contains(latent_area)) tracks_.emplace(latent_area, Scaled(latent_area));
  Track& track = tracks_.at(latent_area);
  const double x = PaddedRows(rows);
  const double y = absl::ToDoubleSeconds(time);
  double share_kept = kForgetting;
  if (track.latest.weight > 0) {
    const OutlierFilter::Verdict verdict = track.filter.Judge(y, track.line.At(x));
    if (verdict == OutlierFilter::Verdict::kHiccup) return;
    if (verdict == OutlierFilter::Verdict::kSlowerFromNowOn) share_kept = kForgettingWhenSlower;
  }
  track.latest.Forget(share_kept);
  track.latest.Add(x, y);
  track.line = LineThrough(track);
}

// Through the mean of the latest calls. A cost without any shape counts as all base, so that wider
// calls are tried.
StepCostModel::Line StepCostModel::LineThrough(const Track& track) {
  const double mean_rows = track.latest.mean_rows();
  const double mean_seconds = track.latest.mean_seconds();
  const auto at_scale = [&](const Line& line) {
    return line.At(mean_rows) > 0 ? mean_seconds / line.At(mean_rows) * line.per_row : 0;
  };
  const double spread = track.latest.spread() + track.kept_spread;
  // Calls of one row count only tell no shape: it stays what it was.
  double per_row = at_scale(track.line);
  if (spread > kLeastSpread * track.latest.weight) {
    per_row = (track.latest.co_spread() + track.kept_spread * at_scale(track.kept)) / spread;
  }
  per_row = std::clamp(per_row, 0.0, mean_seconds / mean_rows);
  return {mean_seconds - per_row * mean_rows, per_row};
}

void StepCostModel::KeepShape() {
  for (auto& [area, track] : tracks_) {
    track.kept = track.line;
    track.kept_spread = track.latest.spread();
  }
}

const std::pair<const int64_t, StepCostModel::Track>& StepCostModel::Nearest(
    int64_t latent_area) const {
  auto nearest = tracks_.lower_bound(latent_area);
  if (nearest == tracks_.end()) --nearest;
  return *nearest;
}

StepCostModel::Line StepCostModel::LineOf(int64_t latent_area) const {
  if (tracks_.empty()) return {};
  const auto& [area, track] = Nearest(latent_area);
  const double scale = static_cast<double>(latent_area) / static_cast<double>(area);
  return {scale * track.line.base, scale * track.line.per_row};
}

StepCostModel::Track StepCostModel::Scaled(int64_t latent_area) const {
  if (tracks_.empty()) return {};
  const Track& of = Nearest(latent_area).second;
  return {.line = LineOf(latent_area), .kept = of.kept, .kept_spread = of.kept_spread};
}

absl::Duration StepCostModel::Predict(int64_t latent_area, int rows) const {
  return absl::Seconds(LineOf(latent_area).At(PaddedRows(rows)));
}

std::vector<double> StepCostModel::SecondsUpTo(int64_t latent_area, int max_rows) const {
  const Line line = LineOf(latent_area);
  std::vector<double> seconds(static_cast<size_t>(max_rows) + 1);
  for (int rows = 1; rows <= max_rows; ++rows) {
    seconds[static_cast<size_t>(rows)] =
        absl::ToDoubleSeconds(absl::Seconds(line.At(PaddedRows(rows))));
  }
  return seconds;
}

int StepCostModel::EfficientRows(absl::Span<const double> seconds) const {
  const int max_rows = static_cast<int>(seconds.size()) - 1;
  if (tracks_.empty()) return max_rows;
  const auto per_row = [&](int rows) { return seconds[static_cast<size_t>(rows)] / rows; };
  // base >= 0: without padding, more rows never cost more per row.
  const int full_rows = RowsWithin(max_rows);
  const double best = per_row(full_rows);
  for (int rows = 1; rows < full_rows; ++rows) {
    if (per_row(rows) <= kWorthwhile * best) return rows;
  }
  return full_rows;
}

std::vector<int64_t> StepCostModel::areas() const {
  std::vector<int64_t> areas;
  for (const auto& [area, track] : tracks_) areas.push_back(area);
  return areas;
}

}  // namespace image_variations
