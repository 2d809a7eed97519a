// Euler's method on the probability flow in k-diffusion's variables, Karras et al. 2022, algorithm
// 2 without churn; diffusers' scheduling_euler_discrete.py. The ancestral form, of
// scheduling_euler_ancestral_discrete.py, steps below the next sigma and adds noise up to it.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {
namespace {

absl::StatusOr<SamplerPlan> MakePlan(const PlanInput& input, bool is_ancestral) {
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, FractionalSchedule(input));
  SamplerPlan plan{.init_noise_sigma = static_cast<float>(schedule.init_noise_sigma)};
  plan.steps.reserve(schedule.timesteps.size());
  for (size_t i = 0; i < schedule.timesteps.size(); ++i) {
    const double from = schedule.sigmas[i];
    const double to = schedule.sigmas[i + 1];
    const double down = is_ancestral ? to * to / from : to;
    const LinearForm step = EulerStep(input.config.prediction_type, from, down);
    plan.steps.push_back({.timestep = schedule.timesteps[i],
                          .input_scale = InputScale(from),
                          .sample = step.sample,
                          .prediction = step.prediction,
                          .noise = std::sqrt(to * to - down * down),
                          .draws_noise = is_ancestral});
  }
  return plan;
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeEulerPlan(const PlanInput& input) {
  return MakePlan(input, /*is_ancestral=*/false);
}

absl::StatusOr<SamplerPlan> MakeEulerAncestralPlan(const PlanInput& input) {
  if (input.config.prediction_type == PredictionType::kSample) {
    return absl::InvalidArgumentError(
        "euler-ancestral cannot use a model with prediction_type sample");
  }
  return MakePlan(input, /*is_ancestral=*/true);
}

}  // namespace image_variations
