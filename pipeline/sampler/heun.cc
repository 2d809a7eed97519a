// Heun's method on the probability flow in k-diffusion's variables, Karras et al. 2022, algorithm
// 1; diffusers' scheduling_heun_discrete.py. A step is two UNet calls: Euler's step, then the same
// step again from where it began (the anchor), by the mean of the derivatives at both its ends. The
// last step ends at sigma 0, where there is no derivative, and is Euler's.
#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {

absl::StatusOr<SamplerPlan> MakeHeunPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, FractionalSchedule(input));
  SamplerPlan plan{.init_noise_sigma = static_cast<float>(schedule.init_noise_sigma)};
  plan.steps.reserve(2 * schedule.timesteps.size() - 1);
  for (size_t i = 0; i < schedule.timesteps.size(); ++i) {
    const double from = schedule.sigmas[i];
    const double to = schedule.sigmas[i + 1];
    const LinearForm derivative = Derivative(input.config.prediction_type, from);
    plan.steps.push_back({.timestep = schedule.timesteps[i],
                          .input_scale = InputScale(from),
                          .history = {to - from},
                          .keep = true,
                          .save_anchor = true,
                          .keep_sample = derivative.sample,
                          .keep_prediction = derivative.prediction});
    if (i + 1 == schedule.timesteps.size()) break;
    const LinearForm at_end = Derivative(input.config.prediction_type, to);
    const double half = (to - from) / 2;
    plan.steps.push_back({.timestep = schedule.timesteps[i + 1],
                          .input_scale = InputScale(to),
                          .sample = half * at_end.sample,
                          .prediction = half * at_end.prediction,
                          .anchor = 1,
                          .history = {half}});
  }
  return plan;
}

}  // namespace image_variations
