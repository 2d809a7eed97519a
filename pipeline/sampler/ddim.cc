// DDIM, Song et al. 2020, formulas (12) and (16); diffusers' scheduling_ddim.py without clipping.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {

absl::StatusOr<SamplerPlan> MakeDdimPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const std::vector<float> timesteps,
                   TimestepGrid(input, input.steps, /*round=*/true));
  SamplerPlan plan;
  plan.steps.reserve(timesteps.size());
  for (const float timestep : timesteps) {
    const int from = static_cast<int>(timestep);
    const double a = input.AlphaCumprod(from);
    // One stride down, also where the grid's next timestep is another: as diffusers.
    const double b = input.AlphaCumprod(from - input.stride());
    const LinearForm original = OriginalSample(input.config.prediction_type, input.LevelAt(from));
    const LinearForm noise = PredictedNoise(input.config.prediction_type, input.LevelAt(from));
    const double deviation = input.eta * std::sqrt((1 - b) / (1 - a) * (1 - a / b));
    const double direction = std::sqrt(1 - b - deviation * deviation);
    plan.steps.push_back(
        {.timestep = timestep,
         .sample = std::sqrt(b) * original.sample + direction * noise.sample,
         .prediction = std::sqrt(b) * original.prediction + direction * noise.prediction,
         .noise = deviation,
         .draws_noise = input.eta > 0});
  }
  return plan;
}

}  // namespace image_variations
