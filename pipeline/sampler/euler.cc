// Euler's method on the probability flow in k-diffusion's variables, Karras et al. 2022, algorithm
// 2 without churn; diffusers' scheduling_euler_discrete.py. Latents are x / alpha here, hence the
// input scale.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {

absl::StatusOr<SamplerPlan> MakeEulerPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const std::vector<double> timesteps,
                   TimestepGrid(input, input.steps, /*round=*/false));
  const std::vector<double> sigmas = SigmasAt(input, timesteps);
  SamplerPlan plan;
  plan.init_noise_sigma = static_cast<float>(
      input.spacing == TimestepSpacing::kLeading ? std::hypot(sigmas[0], 1) : sigmas[0]);
  for (size_t i = 0; i < timesteps.size(); ++i) {
    const double sigma = sigmas[i];
    const double alpha = 1 / std::hypot(sigma, 1);
    const LinearForm original = OriginalSample(input.config.prediction_type, alpha, sigma * alpha);
    const double change = (sigmas[i + 1] - sigma) / sigma;
    plan.steps.push_back({.timestep = static_cast<float>(timesteps[i]),
                          .input_scale = static_cast<float>(alpha),
                          .sample = static_cast<float>(1 + change * (1 - alpha * original.sample)),
                          .prediction = static_cast<float>(-change * original.prediction)});
  }
  return plan;
}

}  // namespace image_variations
