// DPM-Solver++ (2M), Lu et al. 2022, algorithm 2 with midpoint; diffusers'
// scheduling_dpmsolver_multistep.py. Keeps predictions of the original sample.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {
namespace {

double Alpha(double sigma) { return 1 / std::hypot(sigma, 1); }

}  // namespace

absl::StatusOr<SamplerPlan> MakeDpmpp2mPlan(const PlanInput& input) {
  // One interval more than steps; the last ends at the final sigma, 0, in place of the last point.
  const bool trailing = input.spacing == TimestepSpacing::kTrailing;
  ASSIGN_OR_RETURN(std::vector<double> timesteps,
                   TimestepGrid(input, trailing ? input.steps : input.steps + 1, /*round=*/true));
  timesteps.resize(static_cast<size_t>(input.steps));
  const std::vector<double> sigmas = SigmasAt(input, timesteps);

  SamplerPlan plan;
  for (size_t i = 0; i < timesteps.size(); ++i) {
    const double from = sigmas[i];
    const double to = sigmas[i + 1];
    if (to >= from) {
      return absl::InvalidArgumentError(absl::StrCat("num_inference_steps = ", input.steps,
                                                     ": dpmpp-2m would visit timestep ",
                                                     timesteps[i], " twice"));
    }
    const LinearForm original =
        OriginalSample(input.config.prediction_type, Alpha(from), from * Alpha(from));
    const double weight = Alpha(to) * (1 - to / from);  // -alpha' (exp(-h) - 1)
    // The last step is of first order, since its h is infinite.
    const bool second_order = i > 0 && i + 1 < timesteps.size();
    const double half_over_r =
        second_order ? 0.5 * std::log(from / to) / std::log(sigmas[i - 1] / from) : 0;
    plan.steps.push_back({.timestep = static_cast<float>(timesteps[i]),
                          .sample = static_cast<float>(to * Alpha(to) / (from * Alpha(from))),
                          .history = {static_cast<float>(weight * (1 + half_over_r)),
                                      static_cast<float>(-weight * half_over_r)},
                          .keep = true,
                          .keep_sample = static_cast<float>(original.sample),
                          .keep_prediction = static_cast<float>(original.prediction)});
  }
  return plan;
}

}  // namespace image_variations
