// What the samplers share: diffusers' float32 noise tables, timestep grids, and the meaning of the
// model's output. One function per sampler, in a file of its own, turns these into a plan.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

// beta_i, rounded as torch's CPU kernels round (float32; linspace from both ends, fused).
std::vector<float> Betas(const SamplerConfig&);
// abar_t, the product of 1 - beta_i for i <= t: float32 values of a product kept in double.
std::vector<float> AlphasCumprod(const SamplerConfig&);

// One plan to make, with every default resolved. config must outlive it.
struct PlanInput {
  const SamplerConfig& config;
  int steps;  // num_inference_steps
  double eta;
  TimestepSpacing spacing;
  bool set_alpha_to_one;
  std::vector<float> alphas_cumprod;

  int stride() const { return config.num_train_timesteps / steps; }
  // abar_t; before the first timestep, 1 or abar_0 as set_alpha_to_one says.
  double AlphaCumprod(int timestep) const;
};

// `points` timesteps, descending. linspace gives fractions: rounded half to even, or kept as
// float32 values. INVALID_ARGUMENT: leading begins at (points - 1) * floor(N / points) +
// steps_offset, which can lie beyond the last timestep that the model was trained for.
absl::StatusOr<std::vector<double>> TimestepGrid(const PlanInput&, int points, bool round);

// sigma = sqrt((1 - abar) / abar) at each timestep, interpolated as numpy.interp and rounded to
// float32, with a final 0.
std::vector<double> SigmasAt(const PlanInput&, const std::vector<double>& timesteps);

// sample * x + prediction * e.
struct LinearForm {
  double sample;
  double prediction;
};

// The predicted original sample x0, for x = alpha * x0 + sigma * noise with alpha^2 + sigma^2 = 1
// and e the model's output of this type.
LinearForm OriginalSample(PredictionType, double alpha, double sigma);

absl::StatusOr<SamplerPlan> MakePndmPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDdimPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeEulerPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDpmpp2mPlan(const PlanInput&);

}  // namespace image_variations
