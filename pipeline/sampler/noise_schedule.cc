#include "pipeline/sampler/noise_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kManySteps = 15;

// torch.linspace(start, end, count, dtype=float32) on a CPU with AVX2 or later: one fused
// multiply-add per element, from the nearer end.
std::vector<float> Linspace(double start, double end, int count) {
  const float first = static_cast<float>(start);
  const float last = static_cast<float>(end);
  const float step = (last - first) / static_cast<float>(count - 1);
  std::vector<float> values;
  values.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    values.push_back(i < count / 2 ? std::fma(step, static_cast<float>(i), first)
                                   : std::fma(-step, static_cast<float>(count - 1 - i), last));
  }
  return values;
}

// betas_for_alpha_bar of diffusers/schedulers/scheduling_ddim.py.
std::vector<float> SquaredCosineBetas(int count) {
  const auto alpha_bar = [count](int i) {
    const double time = static_cast<double>(i) / count;
    return std::pow(std::cos((time + 0.008) / 1.008 * std::numbers::pi / 2), 2);
  };
  std::vector<float> betas;
  betas.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    betas.push_back(static_cast<float>(std::min(1 - alpha_bar(i + 1) / alpha_bar(i), 0.999)));
  }
  return betas;
}

// numpy.linspace(0, last, points)[index].
double NumpyLinspace(int last, int points, int index) {
  if (index == 0) return 0;
  if (index == points - 1) return last;
  return index * (static_cast<double>(last) / (points - 1));
}

// numpy.arange(count, 0, -count / points)[index]: numpy adds multiples of the first difference.
double NumpyDescent(int count, int points, int index) {
  const double second = count + -(static_cast<double>(count) / points);
  return count + index * (second - count);
}

}  // namespace

std::vector<float> Betas(const SamplerConfig& config) {
  if (!config.trained_betas.empty()) {
    return {config.trained_betas.begin(), config.trained_betas.end()};
  }
  const int count = config.num_train_timesteps;
  if (config.beta_schedule == BetaSchedule::kSquaredcosCapV2) return SquaredCosineBetas(count);
  if (config.beta_schedule == BetaSchedule::kLinear) {
    return Linspace(config.beta_start, config.beta_end, count);
  }
  std::vector<float> betas =
      Linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), count);
  for (float& beta : betas) beta *= beta;
  return betas;
}

std::vector<float> AlphasCumprod(const SamplerConfig& config) {
  std::vector<float> table = Betas(config);
  double product = 1;
  for (float& entry : table) {
    product *= 1.0f - entry;
    entry = static_cast<float>(product);
  }
  return table;
}

double PlanInput::AlphaCumprod(int timestep) const {
  if (timestep < 0) return set_alpha_to_one ? 1.0 : alphas_cumprod.front();
  IV_CHECK(timestep < config.num_train_timesteps);
  return alphas_cumprod[static_cast<size_t>(timestep)];
}

NoiseLevel PlanInput::LevelAt(int timestep) const {
  const double alpha_cumprod = AlphaCumprod(timestep);
  return {std::sqrt(alpha_cumprod), std::sqrt(1 - alpha_cumprod)};
}

bool PlanInput::LowersOrderAt(size_t step) const {
  return config.lower_order_final && steps < kManySteps && step + 1 == static_cast<size_t>(steps);
}

absl::StatusOr<std::vector<float>> TimestepGrid(const PlanInput& input, int points, bool round) {
  const int count = input.config.num_train_timesteps;
  const int leading_stride = count / points;
  std::vector<float> timesteps;
  timesteps.reserve(static_cast<size_t>(points) + 1);  // PNDM adds one
  for (int i = 0; i < points; ++i) {
    double timestep = 0;
    switch (input.spacing) {
      case TimestepSpacing::kLeading:
        timestep = (points - 1 - i) * leading_stride + input.config.steps_offset;
        break;
      case TimestepSpacing::kLinspace:
        timestep = NumpyLinspace(count - 1, points, points - 1 - i);
        if (round) timestep = std::nearbyint(timestep);
        break;
      case TimestepSpacing::kTrailing:
        timestep = std::nearbyint(NumpyDescent(count, points, i)) - 1;
        break;
    }
    timesteps.push_back(static_cast<float>(timestep));
  }
  if (timesteps.front() >= static_cast<float>(count)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_inference_steps = ", input.steps, " would begin at timestep ", timesteps.front(),
        ", the model was trained for 0 to ", count - 1, "; take fewer steps"));
  }
  return timesteps;
}

LinearForm OriginalSample(PredictionType type, NoiseLevel level) {
  switch (type) {
    case PredictionType::kEpsilon:
      return {1 / level.alpha, -level.sigma / level.alpha};
    case PredictionType::kVPrediction:
      return {level.alpha, -level.sigma};
    case PredictionType::kSample:
      return {0, 1};
  }
  IV_CHECK(false);
}

LinearForm PredictedNoise(PredictionType type, NoiseLevel level) {
  switch (type) {
    case PredictionType::kEpsilon:
      return {0, 1};
    case PredictionType::kVPrediction:
      return {level.sigma, level.alpha};
    case PredictionType::kSample:
      return {1 / level.sigma, -level.alpha / level.sigma};
  }
  IV_CHECK(false);
}

}  // namespace image_variations
