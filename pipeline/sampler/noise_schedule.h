// What the samplers share: diffusers' float32 noise tables, timestep grids, and the meaning of the
// model's output.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

// beta_i, rounded as torch's CPU kernels round (float32; linspace from both ends, fused).
std::vector<float> Betas(const SamplerConfig&);
// abar_t, the product of 1 - beta_i for i <= t: float32 values of a product kept in double.
std::vector<float> AlphasCumprod(const SamplerConfig&);

// x = alpha * x0 + sigma * noise, with alpha^2 + sigma^2 = 1.
struct NoiseLevel {
  double alpha;
  double sigma;
};

// One plan to make, with every default resolved. config must outlive it.
struct PlanInput {
  const SamplerConfig& config;
  int steps;  // num_inference_steps
  double eta;
  TimestepSpacing spacing;
  bool set_alpha_to_one;
  bool use_karras_sigmas;
  bool ends_at_sigma_min;
  std::vector<float> alphas_cumprod;

  int stride() const { return config.num_train_timesteps / steps; }
  // abar_t; before the first timestep, 1 or abar_0 as set_alpha_to_one says.
  double AlphaCumprod(int timestep) const;
  NoiseLevel LevelAt(int timestep) const;
  // Whether a multistep solver takes this step, counted from 0, by its first order: the last one of
  // few.
  bool LowersOrderAt(size_t step) const;
};

// `points` timesteps, descending. linspace gives fractions: rounded half to even, or kept as
// float32 values. INVALID_ARGUMENT: leading begins at (points - 1) * floor(N / points) +
// steps_offset, which can lie beyond the last timestep that the model was trained for. For 61 and
// some other counts diffusers' trailing goes on to a timestep -1, by numpy's rounding; not here.
absl::StatusOr<std::vector<float>> TimestepGrid(const PlanInput&, int points, bool round);

// sample * x + prediction * e, where e is the model's output.
struct LinearForm {
  double sample;
  double prediction;
};

// x0 and the noise, as the model predicts them for an x of this level.
LinearForm OriginalSample(PredictionType, NoiseLevel);
LinearForm PredictedNoise(PredictionType, NoiseLevel);

}  // namespace image_variations
