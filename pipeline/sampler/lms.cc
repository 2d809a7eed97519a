// Linear multistep (Adams-Bashforth) of order 4 in k-diffusion's variables; diffusers'
// scheduling_lms_discrete.py. Keeps derivatives.
#include <algorithm>
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"
#include "pipeline/sampler/sigma_schedule.h"

namespace image_variations {
namespace {

// The integral over [from, to] of the polynomial that is 1 at points[one] and 0 at the other
// points. Its degree is 3 at most, and Gauss' two points are exact.
double IntegralOfLagrange(absl::Span<const double> points, size_t one, double from, double to) {
  const double middle = (from + to) / 2;
  const double offset = (to - from) / 2 / std::sqrt(3.0);
  double sum = 0;
  for (const double at : {middle - offset, middle + offset}) {
    double value = 1;
    for (size_t k = 0; k < points.size(); ++k) {
      if (k != one) value *= (at - points[k]) / (points[one] - points[k]);
    }
    sum += value;
  }
  return sum * (to - from) / 2;
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeLmsPlan(const PlanInput& input) {
  ASSIGN_OR_RETURN(const SigmaSchedule schedule, FractionalSchedule(input));
  SamplerPlan plan{.init_noise_sigma = static_cast<float>(schedule.init_noise_sigma)};
  plan.steps.reserve(schedule.timesteps.size());
  for (size_t i = 0; i < schedule.timesteps.size(); ++i) {
    const double from = schedule.sigmas[i];
    const LinearForm derivative = Derivative(input.config.prediction_type, from);
    SamplerStep step{.timestep = schedule.timesteps[i],
                     .input_scale = InputScale(from),
                     .keep = true,
                     .keep_sample = derivative.sample,
                     .keep_prediction = derivative.prediction};
    const size_t order = std::min(i + 1, step.history.size());
    const auto points = absl::MakeConstSpan(schedule.sigmas).subspan(i + 1 - order, order);
    for (size_t k = 0; k < order; ++k) {
      step.history[k] = IntegralOfLagrange(points, order - 1 - k, from, schedule.sigmas[i + 1]);
    }
    plan.steps.push_back(step);
  }
  return plan;
}

}  // namespace image_variations
