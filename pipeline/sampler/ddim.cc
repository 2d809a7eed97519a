// DDIM, Song et al. 2020, formulas (12) and (16); diffusers' scheduling_ddim.py without clipping.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {

absl::StatusOr<SamplerPlan> MakeDdimPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const std::vector<double> timesteps,
                   TimestepGrid(input, input.steps, /*round=*/true));
  SamplerPlan plan;
  for (const double timestep : timesteps) {
    const int from = static_cast<int>(timestep);
    const double a = input.AlphaCumprod(from);
    // One stride down, also where the grid's next timestep is another: as diffusers.
    const double b = input.AlphaCumprod(from - input.stride());
    const double alpha = std::sqrt(a);
    const double sigma = std::sqrt(1 - a);
    const LinearForm original = OriginalSample(input.config.prediction_type, alpha, sigma);
    const LinearForm epsilon{(1 - alpha * original.sample) / sigma,
                             -alpha * original.prediction / sigma};
    const double deviation = input.eta * std::sqrt((1 - b) / (1 - a) * (1 - a / b));
    const double direction = std::sqrt(1 - b - deviation * deviation);
    plan.steps.push_back(
        {.timestep = static_cast<float>(timestep),
         .sample = static_cast<float>(std::sqrt(b) * original.sample + direction * epsilon.sample),
         .prediction = static_cast<float>(std::sqrt(b) * original.prediction +
                                          direction * epsilon.prediction),
         .noise = static_cast<float>(deviation),
         .draws_noise = input.eta > 0});
  }
  return plan;
}

}  // namespace image_variations
