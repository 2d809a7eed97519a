#include "pipeline/engine/step_cost.h"

#include <algorithm>
#include <cmath>

namespace image_variations {
namespace {

constexpr double kForgetting =
    0.98;  // weight of the past after one more observation: about the last 50 calls count
constexpr double kForgettingWhenSlower = 0.1;
constexpr double kWorthwhile = 1.03;  // of the best time per row

}  // namespace

void StepCostModel::Observe(int64_t latent_area, int rows, absl::Duration time) {
  if (!fits_.contains(latent_area)) fits_.emplace(latent_area, Scaled(latent_area));
  Fit& fit = fits_.at(latent_area);
  const double x = PaddedRows(rows);
  const double y = absl::ToDoubleSeconds(time);
  double forgetting = kForgetting;
  if (fit.weight > 0) {
    const OutlierFilter::Verdict verdict = fit.filter.Judge(y, fit.base + fit.per_row * x);
    if (verdict == OutlierFilter::Verdict::kHiccup) return;
    if (verdict == OutlierFilter::Verdict::kSlowerFromNowOn) forgetting = kForgettingWhenSlower;
  }
  for (double* sum : {&fit.weight, &fit.rows, &fit.seconds, &fit.rows_rows, &fit.rows_seconds}) {
    *sum *= forgetting;
  }
  fit.weight += 1;
  fit.rows += x;
  fit.seconds += y;
  fit.rows_rows += x * x;
  fit.rows_seconds += x * y;

  const double mean_rows = fit.rows / fit.weight;
  const double mean_seconds = fit.seconds / fit.weight;
  const double variance = fit.rows_rows / fit.weight - mean_rows * mean_rows;
  if (variance > 0.01) {
    const double covariance = fit.rows_seconds / fit.weight - mean_rows * mean_seconds;
    fit.per_row = std::clamp(covariance / variance, 0.0, mean_seconds / mean_rows);
    fit.base = mean_seconds - fit.per_row * mean_rows;
    return;
  }
  // Calls of one row count only: the shape stays what it was and the scale follows. A cost without
  // any shape counts as all base, so that wider calls are tried.
  const double known = fit.base + fit.per_row * mean_rows;
  fit.per_row *= known > 0 ? mean_seconds / known : 0;
  fit.base = mean_seconds - fit.per_row * mean_rows;
}

StepCostModel::Fit StepCostModel::Scaled(int64_t latent_area) const {
  if (fits_.empty()) return {};
  auto nearest = fits_.lower_bound(latent_area);
  if (nearest == fits_.end()) --nearest;
  const double scale = static_cast<double>(latent_area) / static_cast<double>(nearest->first);
  return {.base = scale * nearest->second.base, .per_row = scale * nearest->second.per_row};
}

absl::Duration StepCostModel::Predict(int64_t latent_area, int rows) const {
  const Fit fit = Scaled(latent_area);
  return absl::Seconds(fit.base + fit.per_row * PaddedRows(rows));
}

int StepCostModel::EfficientRows(int64_t latent_area, int max_rows) const {
  if (fits_.empty()) return max_rows;
  const auto per_row = [&](int rows) {
    return absl::ToDoubleSeconds(Predict(latent_area, rows)) / rows;
  };
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
  for (const auto& [area, fit] : fits_) areas.push_back(area);
  return areas;
}

}  // namespace image_variations
