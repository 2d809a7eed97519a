// diffusers' StableDiffusionSafetyChecker up to its scores; the verdict is the engine's.
#pragma once

#include <optional>

#include "pipeline/engine/safety_policy.h"
#include "pipeline/model/clip_vision.h"

namespace image_variations {

struct SafetyHead {
  ClipVision vision_model;
  at::Tensor concept_embeds;               // (concepts, projection_dim)
  at::Tensor special_care_embeds;          // (special-care concepts, projection_dim)
  at::Tensor concept_embeds_weights;       // thresholds
  at::Tensor special_care_embeds_weights;  // thresholds

  // `same_tower`: one with the same weights, which is used in place of the component's own; or
  // null.
  static SafetyHead Load(const WeightScope& component, const ClipVisionConfig&,
                         const ClipVision* same_tower);
  // Of an embedding (1, projection_dim) made by vision_model.
  SafetyScores Score(const at::Tensor& embeds) const;
};

// Cosine of every pair of rows, in float32; each norm counts as at least 1e-12.
at::Tensor CosineSimilarity(const at::Tensor& a, const at::Tensor& b);
// Of two embeddings (1, width); none if it is not finite.
std::optional<float> Similarity(const at::Tensor& a, const at::Tensor& b);

}  // namespace image_variations
