#include "pipeline/model/safety_head.h"

#include "ATen/TensorOperators.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/mm.h"
#include "pipeline/model/preprocessing.h"

namespace image_variations {
namespace {

// In no config file: diffusers' class has them in its code.
constexpr int64_t kConcepts = 17;
constexpr int64_t kSpecialCareConcepts = 3;

at::Tensor Normalized(const at::Tensor& rows) {
  const at::Tensor norm = at::linalg_vector_norm(rows, 2, at::OptionalIntArrayRef({1}), true);
  return rows / norm.clamp_min(1e-12);
}

std::vector<float> Margins(const at::Tensor& embedding, const at::Tensor& concepts,
                           const at::Tensor& thresholds) {
  const at::Tensor margins =
      (CosineSimilarity(embedding, concepts).flatten() - thresholds.to(at::kFloat)).cpu();
  const float* first = margins.const_data_ptr<float>();
  return {first, first + margins.numel()};
}

}  // namespace

SafetyHead SafetyHead::Load(const WeightScope& scope, const ClipVisionConfig& config) {
  const int64_t width = config.projection_dim;
  return {
      .vision_model = ClipVision::Load(scope, config),
      .concept_embeds = scope.Take("concept_embeds", {kConcepts, width}),
      .special_care_embeds = scope.Take("special_care_embeds", {kSpecialCareConcepts, width}),
      .concept_embeds_weights = scope.Take("concept_embeds_weights", {kConcepts}),
      .special_care_embeds_weights =
          scope.Take("special_care_embeds_weights", {kSpecialCareConcepts}),
  };
}

SafetyScores SafetyHead::Score(const Image& image, const PreprocessorConfig& preprocessor) const {
  const at::Tensor embedding = vision_model.Forward(PreprocessAsClip(image, preprocessor));
  return {.special_care = Margins(embedding, special_care_embeds, special_care_embeds_weights),
          .concepts = Margins(embedding, concept_embeds, concept_embeds_weights)};
}

at::Tensor CosineSimilarity(const at::Tensor& a, const at::Tensor& b) {
  return at::mm(Normalized(a).to(at::kFloat), Normalized(b).to(at::kFloat).t());
}

}  // namespace image_variations
