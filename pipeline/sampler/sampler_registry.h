// Every sampler in one table: its name, the diffusers class behind it, and the function that makes
// its plans, which has a file of its own.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "pipeline/sampler/noise_schedule.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

inline int OneUnetCallPerStep(int steps) { return steps; }

struct Sampler {
  SamplerInfo info;
  absl::string_view diffusers_class;
  absl::StatusOr<SamplerPlan> (*make_plan)(const PlanInput&);
  int (*unet_calls)(int steps) = OneUnetCallPerStep;

  // The defaults of the class.
  double beta_start = 0.0001;
  double beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  TimestepSpacing spacing = TimestepSpacing::kLinspace;
  bool set_alpha_to_one = false;
  bool clip_sample = false;
  bool is_distilled = false;  // original_inference_steps are its most

  // What the name or the class says of these; absent: the config does.
  std::optional<bool> use_karras_sigmas;
  std::optional<bool> ends_at_sigma_min;
  bool is_sde = false;
};

// In the order in which they are listed to users. Of several samplers of one class the first is
// plain.
absl::Span<const Sampler> SamplerRegistry();

absl::StatusOr<SamplerPlan> MakeDdimPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDdpmPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDeisPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDpmpp2mPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeDpmpp2mSdePlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeEulerAncestralPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeEulerPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeHeunPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeLcmPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeLmsPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakePndmPlan(const PlanInput&);
absl::StatusOr<SamplerPlan> MakeUnipcPlan(const PlanInput&);

}  // namespace image_variations
