#include "pipeline/model/clip_vision.h"

#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/sigmoid.h"
#include "pipeline/model/device.h"
#include "pipeline/model/vector_math.h"

namespace image_variations {
namespace {

// A token at a time, so that where a token stands does not decide which loop it falls into.
template <typename T>
void QuickGeluInPlace(const at::Tensor& tokens) {
  const int64_t width = tokens.size(-1);
  T* const first = tokens.mutable_data_ptr<T>();
  at::parallel_for(0, tokens.numel() / width, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) QuickGelu(first + i * width, width, first + i * width);
  });
}

// Of dense (rows, tokens, width), which it may change.
at::Tensor QuickGelu(const at::Tensor& tokens) {
  if (tokens.is_cpu() && tokens.scalar_type() == at::kBFloat16) {
    QuickGeluInPlace<c10::BFloat16>(tokens);
  } else if (tokens.is_cpu() && tokens.scalar_type() == at::kFloat) {
    QuickGeluInPlace<float>(tokens);
  } else {
    return tokens * at::sigmoid(tokens * 1.702);
  }
  return tokens;
}

}  // namespace

ClipEncoderLayer ClipEncoderLayer::Load(const WeightScope& scope, const ClipVisionConfig& config) {
  const int width = config.hidden_size;
  const WeightScope attention = scope["self_attn"];
  const WeightScope mlp = scope["mlp"];
  return {
      .layer_norm1 = LayerNorm::Load(scope["layer_norm1"], width, config.layer_norm_eps),
      .self_attn = SelfAttention::Load(
          {attention["q_proj"], attention["k_proj"], attention["v_proj"], attention["out_proj"]},
          width, config.num_attention_heads, /*qkv_has_bias=*/true),
      .layer_norm2 = LayerNorm::Load(scope["layer_norm2"], width, config.layer_norm_eps),
      .fc1 = Linear::Load(mlp["fc1"], width, config.intermediate_size),
      .fc2 = Linear::Load(mlp["fc2"], config.intermediate_size, width),
      .quick_gelu = config.quick_gelu,
  };
}

at::Tensor ClipEncoderLayer::Forward(const at::Tensor& tokens) const {
  const at::Tensor h = self_attn.ForwardAdd(layer_norm1.Forward(tokens), tokens);
  const at::Tensor normed = layer_norm2.Forward(h);
  if (!quick_gelu) return fc2.ForwardAdd(fc1.ForwardGelu(normed), h);
  return fc2.ForwardAdd(QuickGelu(fc1.Forward(normed)), h);
}

ClipVision ClipVision::Load(const WeightScope& component, const ClipVisionConfig& config) {
  const bool doubled = component.Has("vision_model.vision_model.embeddings.class_embedding");
  const WeightScope scope = component[doubled ? "vision_model.vision_model" : "vision_model"];
  const WeightScope embeddings = scope["embeddings"];
  const int width = config.hidden_size;
  const int patches_per_side = config.image_size / config.patch_size;
  ClipVision tower;
  tower.class_embedding = embeddings.Take("class_embedding", {width}).view({1, 1, width});
  tower.patch_embedding =
      embeddings.Take("patch_embedding.weight", {width, 3, config.patch_size, config.patch_size});
  tower.position_embedding = embeddings.Take("position_embedding.weight",
                                             {1 + patches_per_side * patches_per_side, width});
  tower.pre_layrnorm = LayerNorm::Load(scope["pre_layrnorm"], width, config.layer_norm_eps);
  for (size_t i = 0; i < static_cast<size_t>(config.num_hidden_layers); ++i) {
    tower.layers.push_back(ClipEncoderLayer::Load(scope["encoder"]["layers"][i], config));
  }
  tower.post_layernorm = LayerNorm::Load(scope["post_layernorm"], width, config.layer_norm_eps);
  tower.visual_projection =
      Linear::Load(component["visual_projection"], width, config.projection_dim, false);
  tower.image_size = config.image_size;
  return tower;
}

at::Tensor ClipVision::Pool(const at::Tensor& pixels) const {
  const at::Tensor there = ToDevice(pixels, patch_embedding.device()).to(patch_embedding.options());
  const at::Tensor patches = at::conv2d(there, patch_embedding, {}, patch_embedding.size(-1));
  at::Tensor tokens = at::cat({class_embedding, ToTokens(patches)}, 1) + position_embedding;
  tokens = pre_layrnorm.Forward(tokens);
  for (const ClipEncoderLayer& layer : layers) tokens = layer.Forward(tokens);
  return post_layernorm.Forward(tokens.narrow(1, 0, 1));
}

at::Tensor ClipVision::Project(const at::Tensor& pooled) const {
  return visual_projection.Forward(pooled).squeeze(1);
}

}  // namespace image_variations
