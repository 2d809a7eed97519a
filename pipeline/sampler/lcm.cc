// Latent consistency models, Luo et al. 2023, multistep sampling; diffusers' scheduling_lcm.py.
// For models that were distilled so. Guidance is the request's, as for every sampler.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {
namespace {

constexpr double kSigmaDataSquared = 0.25;

// A selection of the timesteps that the model was distilled for, which end at stride - 1.
std::vector<int> Timesteps(const PlanInput& input) {
  const int original_steps = input.config.original_inference_steps;
  const int stride = input.config.num_train_timesteps / original_steps;
  const double skip = static_cast<double>(original_steps) / input.steps;
  std::vector<int> timesteps;
  timesteps.reserve(static_cast<size_t>(input.steps));
  for (int i = 0; i < input.steps; ++i) {
    timesteps.push_back((original_steps - static_cast<int>(i * skip)) * stride - 1);
  }
  return timesteps;
}

}  // namespace

absl::StatusOr<SamplerPlan> MakeLcmPlan(const PlanInput& input) {
  const int original_steps = input.config.original_inference_steps;
  if (original_steps > input.config.num_train_timesteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("lcm: original_inference_steps = ", original_steps,
                     " is more than num_train_timesteps = ", input.config.num_train_timesteps));
  }
  const std::vector<int> timesteps = Timesteps(input);
  SamplerPlan plan;
  plan.steps.reserve(timesteps.size());
  for (size_t i = 0; i < timesteps.size(); ++i) {
    const int from = timesteps[i];
    const bool is_last = i + 1 == timesteps.size();
    const NoiseLevel to = is_last ? NoiseLevel{1, 0} : input.LevelAt(timesteps[i + 1]);
    const LinearForm original = OriginalSample(input.config.prediction_type, input.LevelAt(from));
    const double time = from * input.config.timestep_scaling;
    const double c_skip = kSigmaDataSquared / (time * time + kSigmaDataSquared);
    const double c_out = std::sqrt(1 - c_skip);
    plan.steps.push_back({.timestep = static_cast<float>(from),
                          .sample = to.alpha * (c_out * original.sample + c_skip),
                          .prediction = to.alpha * c_out * original.prediction,
                          .noise = to.sigma,
                          .draws_noise = !is_last});
  }
  return plan;
}

}  // namespace image_variations
