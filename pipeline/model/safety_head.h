// diffusers' StableDiffusionSafetyChecker up to its scores; the verdict is the engine's.
#pragma once

#include "pipeline/engine/safety_policy.h"
#include "pipeline/model/clip_vision.h"

namespace image_variations {

struct SafetyHead {
  ClipVision vision_model;
  at::Tensor concept_embeds;               // (concepts, projection_dim)
  at::Tensor special_care_embeds;          // (special-care concepts, projection_dim)
  at::Tensor concept_embeds_weights;       // thresholds
  at::Tensor special_care_embeds_weights;  // thresholds

  static SafetyHead Load(const WeightScope& component, const ClipVisionConfig&);
  // The picture as it would be answered, 8 bits.
  SafetyScores Score(const Image&, const PreprocessorConfig&) const;
};

// Cosine of every pair of rows, in float32; each norm counts as at least 1e-12.
at::Tensor CosineSimilarity(const at::Tensor& a, const at::Tensor& b);

}  // namespace image_variations
