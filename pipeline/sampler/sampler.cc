#include "pipeline/sampler/sampler.h"

#include <array>
#include <cmath>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/noise_schedule.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {
namespace {

constexpr absl::string_view kDpmSolver = "DPMSolverMultistepScheduler";

constexpr Sampler kSamplers[] = {
    {.info = {"pndm"},
     .diffusers_class = "PNDMScheduler",
     .make_plan = MakePndmPlan,
     .unet_calls = [](int steps) { return steps > 1 ? steps + 1 : steps; },
     .spacing = TimestepSpacing::kLeading},
    {.info = {"ddim", /*has_eta=*/true},
     .diffusers_class = "DDIMScheduler",
     .make_plan = MakeDdimPlan,
     .spacing = TimestepSpacing::kLeading,
     .set_alpha_to_one = true,
     .clip_sample = true},
    {.info = {"ddpm"},
     .diffusers_class = "DDPMScheduler",
     .make_plan = MakeDdpmPlan,
     .spacing = TimestepSpacing::kLeading,
     .clip_sample = true},
    {.info = {"euler"}, .diffusers_class = "EulerDiscreteScheduler", .make_plan = MakeEulerPlan},
    {.info = {"euler-ancestral"},
     .diffusers_class = "EulerAncestralDiscreteScheduler",
     .make_plan = MakeEulerAncestralPlan,
     .use_karras_sigmas = false,
     .ends_at_sigma_min = false},
    {.info = {"heun"},
     .diffusers_class = "HeunDiscreteScheduler",
     .make_plan = MakeHeunPlan,
     .unet_calls = [](int steps) { return 2 * steps - 1; },
     .beta_start = 0.00085,
     .beta_end = 0.012,
     .ends_at_sigma_min = false},
    {.info = {"lms"},
     .diffusers_class = "LMSDiscreteScheduler",
     .make_plan = MakeLmsPlan,
     .ends_at_sigma_min = false},
    {.info = {"dpmpp-2m"},
     .diffusers_class = kDpmSolver,
     .make_plan = MakeDpmpp2mPlan,
     .use_karras_sigmas = false},
    {.info = {"dpmpp-2m-karras"},
     .diffusers_class = kDpmSolver,
     .make_plan = MakeDpmpp2mPlan,
     .use_karras_sigmas = true},
    {.info = {"dpmpp-2m-sigma-min"},
     .diffusers_class = kDpmSolver,
     .make_plan = MakeDpmpp2mPlan,
     .use_karras_sigmas = false,
     .ends_at_sigma_min = true},
    {.info = {"dpmpp-2m-sde"},
     .diffusers_class = kDpmSolver,
     .make_plan = MakeDpmpp2mSdePlan,
     .use_karras_sigmas = false,
     .is_sde = true},
    {.info = {"dpmpp-2m-sde-karras"},
     .diffusers_class = kDpmSolver,
     .make_plan = MakeDpmpp2mSdePlan,
     .use_karras_sigmas = true,
     .is_sde = true},
    {.info = {"unipc"}, .diffusers_class = "UniPCMultistepScheduler", .make_plan = MakeUnipcPlan},
    {.info = {"deis"},
     .diffusers_class = "DEISMultistepScheduler",
     .make_plan = MakeDeisPlan,
     .ends_at_sigma_min = true},
    {.info = {"lcm"},
     .diffusers_class = "LCMScheduler",
     .make_plan = MakeLcmPlan,
     .beta_start = 0.00085,
     .beta_end = 0.012,
     .beta_schedule = BetaSchedule::kScaledLinear,
     .spacing = TimestepSpacing::kLeading,
     .set_alpha_to_one = true,
     .is_distilled = true},
};

absl::StatusOr<const Sampler*> FindSampler(absl::string_view name) {
  for (const Sampler& sampler : kSamplers) {
    if (sampler.info.name == name) return &sampler;
  }
  const auto append = [](std::string* out, const Sampler& sampler) {
    out->append(sampler.info.name.data(), sampler.info.name.size());
  };
  return absl::InvalidArgumentError(absl::StrCat("unknown sampler \"", name, "\", known are ",
                                                 absl::StrJoin(kSamplers, ", ", append)));
}

absl::Status CheckChoice(const SamplerConfig& config, const SamplerChoice& choice,
                         const Sampler& sampler) {
  const SamplerInfo& info = sampler.info;
  if (choice.num_inference_steps < 1 || choice.num_inference_steps > config.num_train_timesteps) {
    return absl::InvalidArgumentError(absl::StrCat("num_inference_steps is ",
                                                   choice.num_inference_steps, ", must be 1 to ",
                                                   config.num_train_timesteps));
  }
  if (sampler.is_distilled && choice.num_inference_steps > config.original_inference_steps) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_inference_steps is ", choice.num_inference_steps, ", ", info.name, " can do 1 to ",
        config.original_inference_steps, " (original_inference_steps)"));
  }
  if (!info.has_eta && choice.eta != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("eta is ", choice.eta, ", but sampler ", info.name, " has none"));
  }
  if (!(choice.eta >= 0 && choice.eta <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("eta is ", choice.eta, ", must be 0 to 1"));
  }
  return absl::OkStatus();
}

// Betas near 0 or 1 leave a model whose first timestep has no noise, or whose last one no signal.
bool IsFinite(const SamplerStep& step) {
  const auto is_finite = [](double weight) { return std::isfinite(weight); };
  return absl::c_all_of(step.history, is_finite) &&
         absl::c_all_of(std::array{step.input_scale, step.sample, step.prediction, step.anchor,
                                   step.noise, step.keep_sample, step.keep_prediction},
                        is_finite);
}

}  // namespace

absl::Span<const Sampler> SamplerRegistry() { return kSamplers; }

absl::Span<const SamplerInfo> Samplers() {
  static const std::vector<SamplerInfo> infos = [] {
    std::vector<SamplerInfo> list;
    for (const Sampler& sampler : kSamplers) list.push_back(sampler.info);
    return list;
  }();
  return infos;
}

std::vector<SamplerInfo> SamplersOf(const SamplerConfig& config) {
  std::vector<SamplerInfo> able;
  for (const SamplerInfo& info : Samplers()) {
    if (MakeSamplerPlan(config, {std::string(info.name), 1}).ok()) able.push_back(info);
  }
  return able;
}

absl::StatusOr<int> UnetCallsOf(const SamplerConfig& config, const SamplerChoice& choice) {
  ASSIGN_OR_RETURN(const Sampler* sampler, FindSampler(choice.name));
  RETURN_IF_ERROR(CheckChoice(config, choice, *sampler));
  return sampler->unet_calls(choice.num_inference_steps);
}

int64_t PlanBytesOf(const SamplerConfig& config, int unet_calls) {
  // Timestep and sigma of each step, once more while they are copied; betas, alphas and sigmas that
  // the model was trained with.
  constexpr int64_t kBytesOfAStep = sizeof(SamplerStep) + 2 * (sizeof(float) + sizeof(double));
  constexpr int64_t kBytesOfATimestep = 3 * sizeof(float);
  return (unet_calls + 2) * kBytesOfAStep + config.num_train_timesteps * kBytesOfATimestep;
}

absl::StatusOr<SamplerPlan> MakeSamplerPlan(const SamplerConfig& config,
                                            const SamplerChoice& choice) {
  ASSIGN_OR_RETURN(const Sampler* sampler, FindSampler(choice.name));
  RETURN_IF_ERROR(CheckChoice(config, choice, *sampler));
  const PlanInput input{
      .config = config,
      .steps = choice.num_inference_steps,
      .eta = choice.eta,
      .spacing = config.timestep_spacing.value_or(sampler->spacing),
      .set_alpha_to_one = config.set_alpha_to_one.value_or(sampler->set_alpha_to_one),
      .use_karras_sigmas = sampler->use_karras_sigmas.value_or(config.use_karras_sigmas),
      .ends_at_sigma_min = sampler->ends_at_sigma_min.value_or(config.ends_at_sigma_min),
      .alphas_cumprod = AlphasCumprod(config)};
  ASSIGN_OR_RETURN(SamplerPlan plan, sampler->make_plan(input));
  if (!absl::c_all_of(plan.steps, IsFinite)) {
    return absl::InvalidArgumentError(
        absl::StrCat(choice.name, " cannot do ", choice.num_inference_steps,
                     " steps with the noise schedule of this model: its weights are not finite"));
  }
  return plan;
}

}  // namespace image_variations
