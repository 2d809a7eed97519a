// UniPC of order 2 with B(h) = e^h - 1, Zhao et al. 2023, algorithms 1 and 2 in predictions of the
// original sample, which are kept; diffusers' scheduling_unipc_multistep.py. The corrector moves
// the last step's end by the prediction there, and the next step begins where it was moved to: two
// linear updates in a row, so one row of the table.
#include <algorithm>
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {
namespace {

constexpr size_t kOrder = 2;

using Weights = std::array<double, 4>;  // of the kept predictions, newest first

// The predictor's step from sigmas[i], in kept predictions.
Weights Predictor(const std::vector<double>& sigmas, size_t i, size_t order) {
  const double h = std::log(sigmas[i] / sigmas[i + 1]);
  const double weight = -LevelOfSigma(sigmas[i + 1]).alpha * std::expm1(-h);
  if (order == 1) return {weight};
  const double slope = weight * h / 2 / std::log(sigmas[i - 1] / sigmas[i]);
  return {weight + slope, -slope};
}

// What is added at sigmas[i] to the end of the step before, which was of this order.
Weights Corrector(const std::vector<double>& sigmas, size_t i, size_t order) {
  const double h = std::log(sigmas[i - 1] / sigmas[i]);
  const double b = std::expm1(-h);
  const double weight = -LevelOfSigma(sigmas[i]).alpha * b;
  if (order == 1) return {weight / 2, -weight / 2};
  // The two equations of the paper's theorem 3.1; 1/2 is what the predictor had in their place.
  const double ratio = -std::log(sigmas[i - 2] / sigmas[i - 1]) / h;
  const double phi_1 = -b / h - 1;
  const double phi_2 = -phi_1 / h - 0.5;
  const double rho_past = (phi_1 - 2 * phi_2) / b / (1 - ratio);
  const double rho_new = phi_1 / b - rho_past;
  const double past = weight * (rho_past - 0.5) / ratio;
  return {weight * rho_new, -weight * rho_new - past, past};
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeUnipcPlan(const PlanInput& input) {
  if (!input.config.lower_order_final && !input.ends_at_sigma_min) {
    return absl::InvalidArgumentError(
        "unipc cannot end at sigma 0 with lower_order_final = false; with final_sigmas_type = "
        "\"sigma_min\" it can");
  }
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, WholeSchedule(input));
  const std::vector<double>& sigmas = schedule.sigmas;
  const size_t count = schedule.timesteps.size();
  SamplerPlan plan;
  plan.steps.reserve(count);
  size_t order = 0;  // of the step before
  for (size_t i = 0; i < count; ++i) {
    const NoiseLevel from = LevelOfSigma(sigmas[i]);
    const NoiseLevel to = LevelOfSigma(sigmas[i + 1]);
    const LinearForm original = OriginalSample(input.config.prediction_type, from);
    const Weights corrector = i == 0 ? Weights{} : Corrector(sigmas, i, order);
    order = std::min(kOrder, i + 1);
    if (input.config.lower_order_final) order = std::min(order, count - i);
    SamplerStep step{.timestep = schedule.timesteps[i],
                     .sample = to.sigma / from.sigma,
                     .history = Predictor(sigmas, i, order),
                     .keep = true,
                     .keep_sample = original.sample,
                     .keep_prediction = original.prediction};
    for (size_t k = 0; k < corrector.size(); ++k) step.history[k] += step.sample * corrector[k];
    plan.steps.push_back(step);
  }
  return plan;
}

}  // namespace image_variations
