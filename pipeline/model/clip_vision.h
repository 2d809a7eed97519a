// CLIP's vision tower with its projection.
#pragma once

#include <vector>

#include "ATen/core/Tensor.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/model/layers.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

struct ClipEncoderLayer {
  LayerNorm layer_norm1;
  SelfAttention self_attn;
  LayerNorm layer_norm2;
  Linear fc1, fc2;
  bool quick_gelu = true;

  static ClipEncoderLayer Load(const WeightScope&, const ClipVisionConfig&);
  at::Tensor Forward(const at::Tensor& tokens) const;
};

// CLIPVisionModelWithProjection.
struct ClipVision {
  at::Tensor class_embedding;     // (1, 1, hidden)
  at::Tensor patch_embedding;     // (hidden, 3, patch, patch)
  at::Tensor position_embedding;  // (1 + patches, hidden)
  LayerNorm pre_layrnorm;         // spelled so in every checkpoint
  std::vector<ClipEncoderLayer> layers;
  LayerNorm post_layernorm;
  Linear visual_projection;
  int image_size = 224;

  // `component`: the root of image_encoder or safety_checker; a doubled vision_model prefix, as
  // written before transformers 5, is read too.
  static ClipVision Load(const WeightScope& component, const ClipVisionConfig&);
  // One picture's pixels to its pooled token, (1, 1, hidden).
  at::Tensor Pool(const at::Tensor& pixels) const;
  // A pooled token to the picture's embedding (1, projection_dim), not normalised.
  at::Tensor Project(const at::Tensor& pooled) const;
  at::Tensor Forward(const at::Tensor& pixels) const { return Project(Pool(pixels)); }
};

}  // namespace image_variations
