// PNDM without Runge-Kutta warm-up (PLMS), Liu et al. 2022, formula (9) with linear multistep
// predictions; diffusers' scheduling_pndm.py, step_plms.
#include <algorithm>
#include <array>
#include <cmath>

#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {
namespace {

// Weights of the kept predictions, newest first, by how many there are.
constexpr std::array<std::array<double, 4>, 4> kMultistep{{
    {1, 0, 0, 0},
    {3. / 2, -1. / 2, 0, 0},
    {23. / 12, -16. / 12, 5. / 12, 0},
    {55. / 24, -59. / 24, 37. / 24, -9. / 24},
}};

// x' = sample * x + prediction * e from timestep `from` to `to`.
LinearForm Transfer(const PlanInput& input, int from, int to) {
  const double a = input.AlphaCumprod(from);
  const double b = input.AlphaCumprod(to);
  const LinearForm noise = PredictedNoise(input.config.prediction_type, input.LevelAt(from));
  const double weight = -(b - a) / (a * std::sqrt(1 - b) + std::sqrt(a * (1 - a) * b));
  return {std::sqrt(b / a) + weight * noise.sample, weight * noise.prediction};
}

}  // namespace

absl::StatusOr<SamplerPlan> MakePndmPlan(const PlanInput& input) {
  if (input.config.prediction_type == PredictionType::kSample) {
    return absl::InvalidArgumentError("pndm cannot use a model with prediction_type sample");
  }
  ASSIGN_OR_RETURN(std::vector<float> timesteps, TimestepGrid(input, input.steps, /*round=*/true));
  // The second timestep is visited twice: its first visit only improves the first step.
  if (timesteps.size() > 1) timesteps.insert(timesteps.begin() + 1, timesteps[1]);

  SamplerPlan plan;
  plan.steps.reserve(timesteps.size());
  for (size_t call = 0; call < timesteps.size(); ++call) {
    const int timestep = static_cast<int>(timesteps[call]);
    SamplerStep step{.timestep = timesteps[call]};
    if (call == 1) {
      const LinearForm move = Transfer(input, timestep + input.stride(), timestep);
      step.sample = 0;
      step.anchor = move.sample;
      step.prediction = move.prediction / 2;
      step.history[0] = move.prediction / 2;
    } else {
      const LinearForm move = Transfer(input, timestep, timestep - input.stride());
      const auto& weights = kMultistep[call == 0 ? 0 : std::min<size_t>(call - 1, 3)];
      step.sample = move.sample;
      for (size_t k = 0; k < weights.size(); ++k) step.history[k] = move.prediction * weights[k];
      step.keep = true;
      step.save_anchor = call == 0;
    }
    plan.steps.push_back(step);
  }
  return plan;
}

}  // namespace image_variations
