#include "pipeline/sampler/sigma_schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr double kKarrasRho = 7;

// sigma of each trained timestep, rounded as diffusers' float32 tensors are.
std::vector<float> TrainedSigmas(const PlanInput& input) {
  std::vector<float> sigmas;
  sigmas.reserve(input.alphas_cumprod.size());
  for (const float alpha : input.alphas_cumprod) sigmas.push_back(std::sqrt((1 - alpha) / alpha));
  return sigmas;
}

// numpy.interp.
double SigmaAt(const std::vector<float>& trained, double timestep) {
  const size_t low = static_cast<size_t>(timestep);
  if (low + 1 >= trained.size()) return trained.back();
  return trained[low] +
         (double{trained[low + 1]} - trained[low]) * (timestep - static_cast<double>(low));
}

// diffusers' _sigma_to_t: the fraction between two trained timesteps is that of the logarithms.
double TimestepOfSigma(const std::vector<float>& trained, double sigma) {
  const auto above = std::upper_bound(trained.begin(), trained.end(), sigma);
  const auto first_above = static_cast<size_t>(above - trained.begin());
  const size_t low = std::clamp<size_t>(first_above, 1, trained.size() - 1) - 1;
  const double log_low = std::log(trained[low]);
  const double log_high = std::log(trained[low + 1]);
  const double weight = std::clamp((log_low - std::log(sigma)) / (log_low - log_high), 0.0, 1.0);
  return static_cast<double>(low) + weight;
}

// Karras et al. 2022, formula (5).
std::vector<double> KarrasSigmas(double sigma_max, double sigma_min, int count) {
  const double first = std::pow(sigma_max, 1 / kKarrasRho);
  const double last = std::pow(sigma_min, 1 / kKarrasRho);
  std::vector<double> sigmas;
  sigmas.reserve(static_cast<size_t>(count) + 1);  // and where the last step ends
  for (int i = 0; i < count; ++i) {
    const double fraction = count == 1 ? 0 : static_cast<double>(i) / (count - 1);
    sigmas.push_back(std::pow(first + fraction * (last - first), kKarrasRho));
  }
  return sigmas;
}

void AppendFinalSigma(const PlanInput& input, float sigma_min, std::vector<double>* sigmas) {
  for (double& sigma : *sigmas) sigma = static_cast<float>(sigma);
  sigmas->push_back(input.ends_at_sigma_min ? std::min<double>(sigma_min, sigmas->back()) : 0);
}

}  // namespace

absl::StatusOr<SigmaSchedule> FractionalSchedule(const PlanInput& input) {
  const std::vector<float> trained = TrainedSigmas(input);
  SigmaSchedule schedule;
  ASSIGN_OR_RETURN(schedule.timesteps, TimestepGrid(input, input.steps, /*round=*/false));
  schedule.sigmas.reserve(schedule.timesteps.size() + 1);
  for (const float timestep : schedule.timesteps) {
    schedule.sigmas.push_back(SigmaAt(trained, timestep));
  }
  if (input.use_karras_sigmas) {
    schedule.sigmas = KarrasSigmas(schedule.sigmas.front(), schedule.sigmas.back(), input.steps);
    for (size_t i = 0; i < schedule.timesteps.size(); ++i) {
      schedule.timesteps[i] = static_cast<float>(TimestepOfSigma(trained, schedule.sigmas[i]));
    }
  }
  AppendFinalSigma(input, trained.front(), &schedule.sigmas);
  schedule.init_noise_sigma = input.spacing == TimestepSpacing::kLeading
                                  ? std::hypot(schedule.sigmas.front(), 1)
                                  : schedule.sigmas.front();
  return schedule;
}

absl::StatusOr<SigmaSchedule> WholeSchedule(const PlanInput& input) {
  const std::vector<float> trained = TrainedSigmas(input);
  SigmaSchedule schedule;
  if (input.use_karras_sigmas) {
    schedule.sigmas = KarrasSigmas(trained.back(), trained.front(), input.steps);
    schedule.timesteps.reserve(schedule.sigmas.size());
    for (const double sigma : schedule.sigmas) {
      schedule.timesteps.push_back(
          static_cast<float>(std::nearbyint(TimestepOfSigma(trained, sigma))));
    }
  } else {
    const bool trailing = input.spacing == TimestepSpacing::kTrailing;
    ASSIGN_OR_RETURN(schedule.timesteps,
                     TimestepGrid(input, trailing ? input.steps : input.steps + 1, /*round=*/true));
    schedule.timesteps.resize(static_cast<size_t>(input.steps));
    schedule.sigmas.reserve(schedule.timesteps.size() + 1);
    for (const float timestep : schedule.timesteps) {
      schedule.sigmas.push_back(SigmaAt(trained, timestep));
    }
  }
  for (size_t i = 1; i < schedule.sigmas.size(); ++i) {
    if (schedule.sigmas[i] < schedule.sigmas[i - 1]) continue;
    return absl::InvalidArgumentError(absl::StrCat("num_inference_steps = ", input.steps,
                                                   " would visit timestep ", schedule.timesteps[i],
                                                   " twice; take fewer steps"));
  }
  AppendFinalSigma(input, trained.front(), &schedule.sigmas);
  return schedule;
}

NoiseLevel LevelOfSigma(double sigma) {
  const double alpha = 1 / std::hypot(sigma, 1);
  return {alpha, sigma * alpha};
}

LinearForm Derivative(PredictionType type, double sigma) {
  const NoiseLevel level = LevelOfSigma(sigma);
  const LinearForm noise = PredictedNoise(type, level);
  return {noise.sample * level.alpha, noise.prediction};
}

LinearForm EulerStep(PredictionType type, double from, double to) {
  const LinearForm derivative = Derivative(type, from);
  return {1 + (to - from) * derivative.sample, (to - from) * derivative.prediction};
}

}  // namespace image_variations
