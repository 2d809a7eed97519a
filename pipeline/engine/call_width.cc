#include "pipeline/engine/call_width.h"

#include <algorithm>

namespace image_variations {
namespace {

constexpr double kRounding = 1e-9;  // of a sum of times that was just enough before

}  // namespace

SampleTimes::SampleTimes(const CostModel& cost, int64_t latent_area, int max_rows)
    : decode(cost.pace.factor() * absl::ToDoubleSeconds(cost.decode.Predict(latent_area))),
      embedding(cost.pace.factor() *
                absl::ToDoubleSeconds(cost.embedding.Predict(CostModel::kSourceArea))),
      margin(cost.pace.margin()),
      efficient_rows(cost.unet.EfficientRows(latent_area, max_rows)) {
  step.push_back(0);
  for (int rows = 1; rows <= std::max(2, max_rows); ++rows) {
    step.push_back(cost.pace.factor() *
                   absl::ToDoubleSeconds(cost.unet.Predict(latent_area, rows)));
  }
}

int RowBudget(const SampleTimes& times, int row_ceiling, int first_rows) {
  return std::max(first_rows, std::min(times.efficient_rows, row_ceiling));
}

int SamplesTogether(absl::Span<const Candidate> candidates, const SampleTimes& times) {
  double longest_step = std::numeric_limits<double>::infinity();  // that all so far can bear
  int together = 0;
  int rows = 0;
  int count = 0;
  for (const Candidate& candidate : candidates) {
    if (!candidate.is_lost(times)) {
      const double for_steps =
          candidate.seconds_left / (1 + times.margin) - candidate.TimeToPicture(times, 0);
      const double alone = times.step[static_cast<size_t>(candidate.rows)];
      longest_step = std::min(longest_step, std::max(for_steps / candidate.steps_left, alone));
    }
    rows += candidate.rows;
    ++count;
    const double step = times.step[static_cast<size_t>(rows)];
    if (count == 1 || step <= longest_step * (1 + kRounding)) together = count;
  }
  return together;
}

}  // namespace image_variations
