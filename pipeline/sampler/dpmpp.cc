// DPM-Solver++ (2M), Lu et al. 2022, algorithm 2, and its SDE form, formula (19) there; diffusers'
// scheduling_dpmsolver_multistep.py. Keeps predictions of the original sample.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {
namespace {

// The last step is of first order where it ends at sigma 0, since its h is infinite.
bool IsSecondOrder(const PlanInput& input, size_t step, size_t count) {
  if (step == 0) return false;
  if (step + 1 < count) return true;
  return input.ends_at_sigma_min && !input.config.euler_at_final && !input.LowersOrderAt(step);
}

absl::StatusOr<SamplerPlan> MakePlan(const PlanInput& input, bool is_sde) {
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, WholeSchedule(input));
  const std::vector<double>& sigmas = schedule.sigmas;
  const size_t count = schedule.timesteps.size();
  const double stretch = is_sde ? 2 : 1;  // the weights of predictions are those of longer steps
  SamplerPlan plan;
  plan.steps.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const NoiseLevel from = LevelOfSigma(sigmas[i]);
    const NoiseLevel to = LevelOfSigma(sigmas[i + 1]);
    const LinearForm original = OriginalSample(input.config.prediction_type, from);
    const double h = std::log(sigmas[i] / sigmas[i + 1]);  // infinite to sigma 0
    const double first = -to.alpha * std::expm1(-stretch * h);
    SamplerStep step{.timestep = schedule.timesteps[i],
                     .sample = to.sigma / from.sigma * (is_sde ? std::exp(-h) : 1),
                     .noise = is_sde ? to.sigma * std::sqrt(-std::expm1(-2 * h)) : 0,
                     .history = {first},
                     .keep = true,
                     .draws_noise = is_sde,
                     .keep_sample = original.sample,
                     .keep_prediction = original.prediction};
    if (IsSecondOrder(input, i, count)) {
      const double rise =
          input.config.solver_type_is_heun ? to.alpha * h - first / stretch : first * h / 2;
      const double slope = rise / std::log(sigmas[i - 1] / sigmas[i]);
      step.history[0] += slope;
      step.history[1] = -slope;
    }
    plan.steps.push_back(step);
  }
  return plan;
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeDpmpp2mPlan(const PlanInput& input) {
  return MakePlan(input, /*is_sde=*/false);
}

absl::StatusOr<SamplerPlan> MakeDpmpp2mSdePlan(const PlanInput& input) {
  return MakePlan(input, /*is_sde=*/true);
}

}  // namespace image_variations
