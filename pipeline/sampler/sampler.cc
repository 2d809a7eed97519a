#include "pipeline/sampler/sampler.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {
namespace {

// A sampler's name, its class in diffusers with that class's defaults, and the function that makes
// its plans.
struct Sampler {
  SamplerInfo info;
  absl::string_view diffusers_class;
  TimestepSpacing spacing;
  bool set_alpha_to_one;
  absl::StatusOr<SamplerPlan> (*make_plan)(const PlanInput&);
};

constexpr Sampler kSamplers[] = {
    {{"pndm"}, "PNDMScheduler", TimestepSpacing::kLeading, false, MakePndmPlan},
    {{"ddim", /*has_eta=*/true}, "DDIMScheduler", TimestepSpacing::kLeading, true, MakeDdimPlan},
    {{"euler"}, "EulerDiscreteScheduler", TimestepSpacing::kLinspace, false, MakeEulerPlan},
    {{"dpmpp-2m"},
     "DPMSolverMultistepScheduler",
     TimestepSpacing::kLinspace,
     false,
     MakeDpmpp2mPlan},
};

template <typename Value>
struct Word {
  absl::string_view word;
  Value value;
};

constexpr Word<BetaSchedule> kBetaSchedules[] = {
    {"linear", BetaSchedule::kLinear},
    {"scaled_linear", BetaSchedule::kScaledLinear},
    {"squaredcos_cap_v2", BetaSchedule::kSquaredcosCapV2},
};
constexpr Word<PredictionType> kPredictionTypes[] = {
    {"epsilon", PredictionType::kEpsilon},
    {"v_prediction", PredictionType::kVPrediction},
    {"sample", PredictionType::kSample},
};
constexpr Word<TimestepSpacing> kTimestepSpacings[] = {
    {"leading", TimestepSpacing::kLeading},
    {"linspace", TimestepSpacing::kLinspace},
    {"trailing", TimestepSpacing::kTrailing},
};

template <typename Value, size_t kCount>
Value ReadWord(ConfigReader& in, absl::string_view key, const Word<Value> (&words)[kCount],
               absl::string_view absent) {
  const std::string word = in.String(key, absent);
  for (const auto& known : words) {
    if (known.word == word) return known.value;
  }
  const auto append = [](std::string* out, const Word<Value>& known) {
    out->append(known.word.data(), known.word.size());
  };
  in.Fail(absl::StrCat(key, " = \"", word, "\" is not implemented, only ",
                       absl::StrJoin(words, ", ", append), " are"));
  return words[0].value;
}

std::string ReadDefaultSampler(ConfigReader& in) {
  const std::string name = in.String("_class_name", "");
  for (const Sampler& sampler : kSamplers) {
    if (sampler.diffusers_class == name) return std::string(sampler.info.name);
  }
  const auto append = [](std::string* out, const Sampler& sampler) {
    out->append(sampler.diffusers_class.data(), sampler.diffusers_class.size());
  };
  in.Fail(absl::StrCat("_class_name = \"", name, "\" is not implemented, only ",
                       absl::StrJoin(kSamplers, ", ", append), " are"));
  return "";
}

// Keys of the four classes that change the arithmetic, at the values that the code has.
void RequireImplemented(ConfigReader& in, absl::string_view own_sampler) {
  for (const char* key : {"clip_sample", "rescale_betas_zero_snr", "thresholding",
                          "use_beta_sigmas", "use_dynamic_shifting", "use_exponential_sigmas",
                          "use_flow_sigmas", "use_karras_sigmas", "use_lu_lambdas"}) {
    in.Only(key, false);
  }
  in.Only("algorithm_type", "dpmsolver++");
  in.Only("final_sigmas_type", "zero");
  in.Only("interpolation_type", "linear");
  in.Only("skip_prk_steps", true);
  in.Only("solver_order", 2.0);
  in.Only("solver_type", "midpoint");
  in.Only("timestep_type", "discrete");
  in.OnlyNull({"lambda_min_clipped", "variance_type"});
  // Absent, these two mean the value that is not implemented, in the class that has them.
  if (own_sampler == "pndm" && !in.Has("skip_prk_steps")) {
    in.Fail("skip_prk_steps is absent, which means false; only true is implemented");
  }
  if (own_sampler == "ddim" && !in.Has("clip_sample")) {
    in.Fail("clip_sample is absent, which means true; only false is implemented");
  }
}

void CheckBetas(ConfigReader& in, const SamplerConfig& config) {
  if (!config.trained_betas.empty() &&
      config.trained_betas.size() != static_cast<size_t>(config.num_train_timesteps)) {
    in.Fail(absl::StrCat("trained_betas has ", config.trained_betas.size(),
                         " entries, num_train_timesteps is ", config.num_train_timesteps));
  }
  for (const float beta : Betas(config)) {
    if (beta > 0 && beta < 1) continue;
    in.Fail(absl::StrCat("a beta is ", beta, ", must be above 0 and below 1"));
    return;
  }
}

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
                         const SamplerInfo& info) {
  if (choice.num_inference_steps < 1 || choice.num_inference_steps > config.num_train_timesteps) {
    return absl::InvalidArgumentError(absl::StrCat("num_inference_steps is ",
                                                   choice.num_inference_steps, ", must be 1 to ",
                                                   config.num_train_timesteps));
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

}  // namespace

absl::StatusOr<SamplerConfig> ParseSamplerConfig(absl::string_view scheduler_config_json) {
  ConfigReader in(scheduler_config_json);
  SamplerConfig config;
  config.default_sampler = ReadDefaultSampler(in);
  config.num_train_timesteps = in.Int("num_train_timesteps", 1000, {2, 100'000});
  config.beta_start = in.Positive("beta_start", 0.0001);
  config.beta_end = in.Positive("beta_end", 0.02);
  config.beta_schedule = ReadWord(in, "beta_schedule", kBetaSchedules, "linear");
  config.prediction_type = ReadWord(in, "prediction_type", kPredictionTypes, "epsilon");
  config.timestep_spacing = std::nullopt;
  if (in.Has("timestep_spacing")) {
    config.timestep_spacing = ReadWord(in, "timestep_spacing", kTimestepSpacings, "leading");
  }
  config.steps_offset = in.Int("steps_offset", 0, {0, config.num_train_timesteps - 1});
  config.set_alpha_to_one = std::nullopt;
  if (in.Has("set_alpha_to_one")) config.set_alpha_to_one = in.Bool("set_alpha_to_one", true);
  config.trained_betas = in.Numbers("trained_betas", {});
  RequireImplemented(in, config.default_sampler);
  CheckBetas(in, config);
  if (!in.status().ok()) return in.status();
  return config;
}

absl::Span<const SamplerInfo> Samplers() {
  static const std::vector<SamplerInfo> infos = [] {
    std::vector<SamplerInfo> list;
    for (const Sampler& sampler : kSamplers) list.push_back(sampler.info);
    return list;
  }();
  return infos;
}

absl::StatusOr<SamplerPlan> MakeSamplerPlan(const SamplerConfig& config,
                                            const SamplerChoice& choice) {
  ASSIGN_OR_RETURN(const Sampler* sampler, FindSampler(choice.name));
  RETURN_IF_ERROR(CheckChoice(config, choice, sampler->info));
  const PlanInput input{
      .config = config,
      .steps = choice.num_inference_steps,
      .eta = choice.eta,
      .spacing = config.timestep_spacing.value_or(sampler->spacing),
      .set_alpha_to_one = config.set_alpha_to_one.value_or(sampler->set_alpha_to_one),
      .alphas_cumprod = AlphasCumprod(config)};
  return sampler->make_plan(input);
}

}  // namespace image_variations
