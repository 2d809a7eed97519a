// k-diffusion's variable sigma, in which x / alpha = x0 + sigma * noise: what Euler, Heun and LMS
// step along, and where the multistep solvers put their steps.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {

struct SigmaSchedule {
  std::vector<float> timesteps;
  std::vector<double> sigmas;  // falling float32 values; one more, where the last step ends
  double init_noise_sigma = 1;
};

// One timestep per step, fractions where the spacing gives fractions. Latents are x / alpha.
absl::StatusOr<SigmaSchedule> FractionalSchedule(const PlanInput&);

// Rounded timesteps, and no step from the last point of the grid. Latents are x. INVALID_ARGUMENT:
// so many steps that two begin at the same sigma. (diffusers' DPM-Solver truncates Karras'
// timesteps of squaredcos_cap_v2 betas, and then fails at most step counts; rounded here too.)
absl::StatusOr<SigmaSchedule> WholeSchedule(const PlanInput&);

NoiseLevel LevelOfSigma(double sigma);

// What the UNet is to see of x / alpha, as a step's input_scale.
inline double InputScale(double sigma) { return LevelOfSigma(sigma).alpha; }

// d (x / alpha) / d sigma, of x / alpha and the model's output: the predicted noise.
LinearForm Derivative(PredictionType, double sigma);
// Euler's step along it.
LinearForm EulerStep(PredictionType, double from, double to);

}  // namespace image_variations
