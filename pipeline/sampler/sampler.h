// A sampler is data: MakeSamplerPlan turns (noise schedule, sampler, step count, eta) into a table
// of scalar weights, one row per UNet call. Nothing here knows tensors or random numbers; values,
// any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace image_variations {

enum class BetaSchedule { kLinear, kScaledLinear, kSquaredcosCapV2 };
enum class PredictionType { kEpsilon, kVPrediction, kSample };
enum class TimestepSpacing { kLeading, kLinspace, kTrailing };

// What scheduler/scheduler_config.json says: the noise that the UNet was trained with, and options
// of solvers. The defaults are those of Stable Diffusion 1.x; an absent optional means each
// sampler's own default, as when diffusers makes one scheduler from the config of another. An
// option goes to every sampler that has it, unless the sampler's name says otherwise
// (dpmpp-2m-karras).
struct SamplerConfig {
  std::string default_sampler = "pndm";  // the checkpoint's own, as named by Samplers()
  int num_train_timesteps = 1000;
  double beta_start = 0.00085;
  double beta_end = 0.012;
  BetaSchedule beta_schedule = BetaSchedule::kScaledLinear;
  PredictionType prediction_type = PredictionType::kEpsilon;
  std::optional<TimestepSpacing> timestep_spacing;
  int steps_offset = 1;  // of spacing leading
  std::optional<bool> set_alpha_to_one = false;
  std::vector<double> trained_betas;  // empty: by beta_schedule

  bool use_karras_sigmas = false;     // euler, heun, lms, unipc, deis
  bool ends_at_sigma_min = false;     // final_sigmas_type, of euler, dpmpp and unipc
  bool solver_type_is_heun = false;   // of dpmpp; otherwise midpoint
  bool lower_order_final = true;      // dpmpp, unipc, deis
  bool euler_at_final = false;        // dpmpp
  bool variance_is_large = false;     // variance_type, of ddpm
  int original_inference_steps = 50;  // lcm
  double timestep_scaling = 10;       // lcm
};

// Parses scheduler_config.json, with diffusers' class defaults for absent keys. A value that is not
// implemented is refused by its key's name. clip_sample is such a value: where the file of another
// class leaves it open, DDIM and DDPM do not clip, although diffusers would (clipping is for
// pixels; diffusers' text-to-image pipeline turns it off as well).
absl::StatusOr<SamplerConfig> ParseSamplerConfig(absl::string_view scheduler_config_json);

// One UNet call of one sample, as numbers. x = latents, e = guided noise prediction, h[0] = newest
// kept value, a = anchor, z = fresh standard normal noise. The UNet sees input_scale * x at
// `timestep`; then
//   if (keep)        push keep_sample * x + keep_prediction * e as h[0]
//   x' = sample * x + prediction * e + anchor * a + sum_k history[k] * h[k] + noise * z
//   if (save_anchor) a = x as it was before the update
// z is drawn only if draws_noise, even where its weight is 0: the stream stays in step with
// diffusers'.
struct SamplerStep {
  float timestep = 0;
  double input_scale = 1;
  double sample = 1;
  double prediction = 0;
  double anchor = 0;
  double noise = 0;
  std::array<double, 4> history{};
  bool keep = false;
  bool save_anchor = false;
  bool draws_noise = false;
  double keep_sample = 0;
  double keep_prediction = 1;
};

// steps.size() is the number of UNet calls: num_inference_steps for most samplers, one more for
// PNDM, 2n - 1 for Heun. Latents start as init_noise_sigma * noise.
struct SamplerPlan {
  float init_noise_sigma = 1;
  std::vector<SamplerStep> steps;
};

struct SamplerInfo {
  absl::string_view name;  // kebab-case, as in the API
  bool has_eta = false;
};

// Every sampler that MakeSamplerPlan knows, in the order in which they are listed to users.
absl::Span<const SamplerInfo> Samplers();
// Those of them that can use a model of this config (PNDM has no prediction type sample).
std::vector<SamplerInfo> SamplersOf(const SamplerConfig&);

struct SamplerChoice {
  std::string name;
  int num_inference_steps = 50;
  double eta = 0;  // DDIM's; 0 for samplers without it
};

// steps.size() of MakeSamplerPlan's plan, in constant time and memory. INVALID_ARGUMENT: unknown
// name (the message lists the known ones), a step count that this sampler cannot do, eta where
// there is none. Also when it is OK, MakeSamplerPlan may refuse: what noise schedules cannot do
// shows there.
absl::StatusOr<int> UnetCallsOf(const SamplerConfig&, const SamplerChoice&);
// Memory that MakeSamplerPlan takes at most, its result included.
int64_t PlanBytesOf(const SamplerConfig&, int unet_calls);

// INVALID_ARGUMENT: as UnetCallsOf, and steps that do not fit the noise schedule. Every weight is
// finite. Weights are computed in double
// precision from diffusers' float32 tables, and rounded once, by those who apply them to float32.
absl::StatusOr<SamplerPlan> MakeSamplerPlan(const SamplerConfig&, const SamplerChoice&);

}  // namespace image_variations
