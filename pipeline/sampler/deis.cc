// DEIS, Zhang and Chen 2022, log-rho Adams-Bashforth of order 2; diffusers'
// scheduling_deis_multistep.py. Keeps noise predictions.
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {
namespace {

// The integral over rho, from `from` to `to`, of the line in log rho that is 1 at `one` and 0 at
// `zero`.
double IntegralOfLine(double from, double to, double one, double zero) {
  const auto primitive = [zero](double rho) { return rho * (std::log(rho / zero) - 1); };
  return (primitive(to) - primitive(from)) / std::log(one / zero);
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeDeisPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, WholeSchedule(input));
  const std::vector<double>& sigmas = schedule.sigmas;
  SamplerPlan plan;
  plan.steps.reserve(schedule.timesteps.size());
  for (size_t i = 0; i < schedule.timesteps.size(); ++i) {
    const NoiseLevel from = LevelOfSigma(sigmas[i]);
    const NoiseLevel to = LevelOfSigma(sigmas[i + 1]);
    const LinearForm noise = PredictedNoise(input.config.prediction_type, from);
    SamplerStep step{.timestep = schedule.timesteps[i],
                     .sample = to.alpha / from.alpha,
                     .keep = true,
                     .keep_sample = noise.sample,
                     .keep_prediction = noise.prediction};
    if (i == 0 || input.LowersOrderAt(i)) {
      step.history[0] = to.alpha * (sigmas[i + 1] - sigmas[i]);
    } else {
      const auto weight = [&](double one, double zero) {
        return to.alpha * IntegralOfLine(sigmas[i], sigmas[i + 1], one, zero);
      };
      step.history[0] = weight(sigmas[i], sigmas[i - 1]);
      step.history[1] = weight(sigmas[i - 1], sigmas[i]);
    }
    plan.steps.push_back(step);
  }
  return plan;
}

}  // namespace image_variations
