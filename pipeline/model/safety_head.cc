#include "pipeline/model/safety_head.h"

#include <cmath>

#include "ATen/TensorOperators.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/mm.h"

namespace image_variations {
namespace {

// In no config file: diffusers' class has them in its code.
constexpr int64_t kConcepts = 17;
constexpr int64_t kSpecialCareConcepts = 3;

at::Tensor Normalized(const at::Tensor& rows) {
  const at::Tensor norm = at::linalg_vector_norm(rows, 2, at::OptionalIntArrayRef({1}), true);
  return rows / norm.clamp_min(1e-12);
}

std::vector<float> Margins(const at::Tensor& embeds, const at::Tensor& concepts,
                           const at::Tensor& thresholds) {
  const at::Tensor margins =
      (CosineSimilarity(embeds, concepts).flatten() - thresholds.to(at::kFloat)).cpu();
  const float* first = margins.const_data_ptr<float>();
  return {first, first + margins.numel()};
}

}  // namespace

SafetyHead SafetyHead::Load(const WeightScope& scope, const ClipVisionConfig& config,
                            const ClipVision* same_tower) {
  const int64_t width = config.projection_dim;
  SafetyHead head = {
      .vision_model = same_tower ? *same_tower : ClipVision::Load(scope, config),
      .concept_embeds = scope.Take("concept_embeds", {kConcepts, width}),
      .special_care_embeds = scope.Take("special_care_embeds", {kSpecialCareConcepts, width}),
      .concept_embeds_weights = scope.Take("concept_embeds_weights", {kConcepts}),
      .special_care_embeds_weights =
          scope.Take("special_care_embeds_weights", {kSpecialCareConcepts}),
  };
  if (same_tower) {
    head.vision_model.visual_projection =
        Linear::Load(scope["visual_projection"], config.hidden_size, width, false);
  }
  return head;
}

SafetyScores SafetyHead::Score(const at::Tensor& embeds) const {
  return {.special_care = Margins(embeds, special_care_embeds, special_care_embeds_weights),
          .concepts = Margins(embeds, concept_embeds, concept_embeds_weights)};
}

at::Tensor CosineSimilarity(const at::Tensor& a, const at::Tensor& b) {
  return at::mm(Normalized(a).to(at::kFloat), Normalized(b).to(at::kFloat).t());
}

std::optional<float> Similarity(const at::Tensor& a, const at::Tensor& b) {
  const float cosine = CosineSimilarity(a, b).item<float>();
  return std::isfinite(cosine) ? std::optional(cosine) : std::nullopt;
}

}  // namespace image_variations
