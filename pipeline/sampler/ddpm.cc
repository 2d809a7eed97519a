// DDPM, Ho et al. 2020, formulas (6) and (7), from each timestep of the grid to the next;
// diffusers' scheduling_ddpm.py without clipping.
#include <algorithm>
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {
namespace {

constexpr double kMinVariance = 1e-20;

}  // namespace

absl::StatusOr<SamplerPlan> MakeDdpmPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const std::vector<float> timesteps,
                   TimestepGrid(input, input.steps, /*round=*/true));
  SamplerPlan plan;
  plan.steps.reserve(timesteps.size());
  for (size_t i = 0; i < timesteps.size(); ++i) {
    const int from = static_cast<int>(timesteps[i]);
    const bool is_last = i + 1 == timesteps.size();
    const double a = input.AlphaCumprod(from);
    const double b = is_last ? 1 : input.AlphaCumprod(static_cast<int>(timesteps[i + 1]));
    const double beta = 1 - a / b;
    const double small_variance = std::max((1 - b) / (1 - a) * beta, kMinVariance);
    const double variance = input.config.variance_is_large ? beta : small_variance;
    const LinearForm original = OriginalSample(input.config.prediction_type, input.LevelAt(from));
    const double weight = std::sqrt(b) * beta / (1 - a);
    const bool draws_noise = from > 0;
    plan.steps.push_back({.timestep = timesteps[i],
                          .sample = weight * original.sample + std::sqrt(a / b) * (1 - b) / (1 - a),
                          .prediction = weight * original.prediction,
                          .noise = draws_noise ? std::sqrt(variance) : 0,
                          .draws_noise = draws_noise});
  }
  return plan;
}

}  // namespace image_variations
