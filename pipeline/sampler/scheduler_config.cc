// scheduler_config.json to SamplerConfig.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/sampler/noise_schedule.h"
#include "pipeline/sampler/sampler.h"
#include "pipeline/sampler/sampler_registry.h"

namespace image_variations {
namespace {

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
// The value: whether it is the SDE's. DEIS' own word means the ODE to the others.
constexpr Word<bool> kAlgorithmTypes[] = {
    {"dpmsolver++", false}, {"sde-dpmsolver++", true}, {"deis", false}};
// Whether it is DPM-Solver's heun. A class takes another class's word for its own default.
constexpr Word<bool> kSolverTypes[] = {
    {"midpoint", false}, {"heun", true}, {"bh2", false}, {"logrho", false}};
constexpr Word<bool> kFinalSigmasTypes[] = {{"zero", false}, {"sigma_min", true}};
// Whether it is large. The logarithm of the small one is taken and undone.
constexpr Word<bool> kVarianceTypes[] = {
    {"fixed_small", false}, {"fixed_small_log", false}, {"fixed_large", true}};

template <typename Value, size_t kCount>
Value ReadWord(ConfigReader& in, absl::string_view key, const Word<Value> (&words)[kCount],
               Value absent) {
  if (!in.Has(key)) return absent;
  const std::string word = in.String(key, "");
  for (const auto& known : words) {
    if (known.word == word) return known.value;
  }
  const auto append = [](std::string* out, const Word<Value>& known) {
    out->append(known.word.data(), known.word.size());
  };
  in.Fail(absl::StrCat(key, " = \"", word, "\" is not implemented, only ",
                       absl::StrJoin(words, ", ", append), " are"));
  return absent;
}

// The sampler of the file's class that its options mean, or else the class's first.
const Sampler& ReadOwnSampler(ConfigReader& in, bool is_sde, bool use_karras_sigmas) {
  const std::string name = in.String("_class_name", "");
  const auto agrees = [&](const Sampler& sampler) {
    return sampler.is_sde == is_sde &&
           sampler.use_karras_sigmas.value_or(use_karras_sigmas) == use_karras_sigmas;
  };
  const Sampler* own = nullptr;
  std::vector<absl::string_view> classes;
  for (const Sampler& sampler : SamplerRegistry()) {
    if (classes.empty() || classes.back() != sampler.diffusers_class) {
      classes.push_back(sampler.diffusers_class);
    }
    if (sampler.diffusers_class != name) continue;
    if (own == nullptr || (!agrees(*own) && agrees(sampler))) own = &sampler;
  }
  if (own != nullptr) return *own;
  in.Fail(absl::StrCat("_class_name = \"", name, "\" is not implemented, only ",
                       absl::StrJoin(classes, ", ",
                                     [](std::string* out, absl::string_view known) {
                                       out->append(known.data(), known.size());
                                     }),
                       " are"));
  return SamplerRegistry().front();
}

// Keys of these classes that change the arithmetic, at the values that the code has.
void RequireImplemented(ConfigReader& in, const Sampler& own) {
  for (const char* key :
       {"clip_sample", "rescale_betas_zero_snr", "thresholding", "use_beta_sigmas",
        "use_dynamic_shifting", "use_exponential_sigmas", "use_flow_sigmas", "use_lu_lambdas"}) {
    in.Only(key, false);
  }
  in.Only("interpolation_type", "linear");
  in.Only("predict_x0", true);
  in.Only("skip_prk_steps", true);
  in.Only("solver_order", 2.0);
  in.Only("timestep_type", "discrete");
  in.OnlyEmpty("disable_corrector");
  in.OnlyNull({"lambda_min_clipped", "shift_terminal", "sigma_max", "sigma_min", "solver_p"});
  // Absent, these two mean the value that is not implemented, in the classes that have them.
  if (own.diffusers_class == "PNDMScheduler" && !in.Has("skip_prk_steps")) {
    in.Fail("skip_prk_steps is absent, which means false; only true is implemented");
  }
  if (own.clip_sample && !in.Has("clip_sample")) {
    in.Fail("clip_sample is absent, which means true; only false is implemented");
  }
}

void ReadNoiseSchedule(ConfigReader& in, const Sampler& own, SamplerConfig& config) {
  config.num_train_timesteps = in.Int("num_train_timesteps", 1000, {2, 100'000});
  config.beta_start = in.Positive("beta_start", own.beta_start);
  config.beta_end = in.Positive("beta_end", own.beta_end);
  config.beta_schedule = ReadWord(in, "beta_schedule", kBetaSchedules, own.beta_schedule);
  config.trained_betas = in.Numbers("trained_betas", {});
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

void ReadSolver(ConfigReader& in, SamplerConfig& config) {
  config.ends_at_sigma_min = ReadWord(in, "final_sigmas_type", kFinalSigmasTypes, false);
  config.solver_type_is_heun = ReadWord(in, "solver_type", kSolverTypes, false);
  config.lower_order_final = in.Bool("lower_order_final", true);
  config.euler_at_final = in.Bool("euler_at_final", false);
  config.variance_is_large = ReadWord(in, "variance_type", kVarianceTypes, false);
  config.original_inference_steps = in.Int("original_inference_steps", 50, {1, 100'000});
  config.timestep_scaling = in.Positive("timestep_scaling", 10);
}

}  // namespace

absl::StatusOr<SamplerConfig> ParseSamplerConfig(absl::string_view scheduler_config_json) {
  ConfigReader in(scheduler_config_json);
  SamplerConfig config;
  const bool is_sde = ReadWord(in, "algorithm_type", kAlgorithmTypes, false);
  config.use_karras_sigmas = in.Bool("use_karras_sigmas", false);
  const Sampler& own = ReadOwnSampler(in, is_sde, config.use_karras_sigmas);
  config.default_sampler = std::string(own.info.name);
  ReadNoiseSchedule(in, own, config);
  config.prediction_type =
      ReadWord(in, "prediction_type", kPredictionTypes, PredictionType::kEpsilon);
  config.timestep_spacing = std::nullopt;
  if (in.Has("timestep_spacing")) {
    config.timestep_spacing = ReadWord(in, "timestep_spacing", kTimestepSpacings, own.spacing);
  }
  config.steps_offset = in.Int("steps_offset", 0, {0, config.num_train_timesteps - 1});
  config.set_alpha_to_one = std::nullopt;
  if (in.Has("set_alpha_to_one")) config.set_alpha_to_one = in.Bool("set_alpha_to_one", true);
  ReadSolver(in, config);
  RequireImplemented(in, own);
  if (!in.status().ok()) return in.status();
  // What does not go together for the file's own sampler is told now, not to every request.
  const auto plan = MakeSamplerPlan(config, {config.default_sampler, 1});
  if (!plan.ok()) return plan.status();
  return config;
}

}  // namespace image_variations
