#include "pipeline/model/clip_vision.h"

#include <algorithm>
#include <cstring>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/sigmoid.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/upsample_bicubic2d.h"
#include "pipeline/model/pil_resize.h"

namespace image_variations {
namespace {

// float32 (1, 3, height, width) from 0 to 255.
at::Tensor ToTensor(const Image& image) {
  at::Tensor bytes = at::empty({1, image.height, image.width, 3}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), image.rgb.data(), image.rgb.size());
  return bytes.permute({0, 3, 1, 2}).to(at::kFloat).contiguous();
}

at::Tensor PerChannel(const std::array<float, 3>& values) {
  return at::tensor(at::ArrayRef<float>(values)).view({1, 3, 1, 1});
}

at::Tensor Normalize(const at::Tensor& pixels, const PreprocessorConfig& config) {
  return (pixels - PerChannel(config.image_mean)) / PerChannel(config.image_std);
}

// The middle of the picture; black where the crop is larger.
Image CenterCrop(const Image& image, int width, int height) {
  Image crop{width, height, {}};
  crop.rgb.resize(3 * static_cast<size_t>(width) * static_cast<size_t>(height));
  const int top = (image.height - height) / 2;
  const int left = (image.width - width) / 2;
  const int from_x = std::max(0, -left);
  const int to_x = std::min(width, image.width - left);
  for (int y = std::max(0, -top); y < std::min(height, image.height - top); ++y) {
    const auto source = image.rgb.begin() + 3 * (int64_t{y + top} * image.width + from_x + left);
    std::copy_n(source, 3 * (to_x - from_x), crop.rgb.begin() + 3 * (int64_t{y} * width + from_x));
  }
  return crop;
}

}  // namespace

at::Tensor PreprocessAsModelCard(const Image& image, int size, const PreprocessorConfig& config) {
  const at::Tensor resized =
      at::upsample_bicubic2d(ToTensor(image) / 255, {size, size}, /*align_corners=*/false);
  return Normalize(resized, config);
}

at::Tensor PreprocessAsClip(const Image& image, const PreprocessorConfig& config) {
  const int64_t shortest = std::min(image.width, image.height);
  const auto scaled = [&](int side) {
    return static_cast<int>(config.shortest_edge * int64_t{side} / shortest);
  };
  const Image resized = PilResize(image, scaled(image.width), scaled(image.height));
  const Image crop = CenterCrop(resized, config.crop_width, config.crop_height);
  return Normalize(ToTensor(crop) * 0.00392156862745098, config);
}

ClipEncoderLayer ClipEncoderLayer::Load(const WeightScope& scope, const ClipVisionConfig& config) {
  const int width = config.hidden_size;
  const WeightScope attention = scope["self_attn"];
  const WeightScope mlp = scope["mlp"];
  return {
      .layer_norm1 = LayerNorm::Load(scope["layer_norm1"], width, config.layer_norm_eps),
      .self_attn = {.to_q = Linear::Load(attention["q_proj"], width, width),
                    .to_k = Linear::Load(attention["k_proj"], width, width),
                    .to_v = Linear::Load(attention["v_proj"], width, width),
                    .to_out = Linear::Load(attention["out_proj"], width, width),
                    .heads = config.num_attention_heads},
      .layer_norm2 = LayerNorm::Load(scope["layer_norm2"], width, config.layer_norm_eps),
      .fc1 = Linear::Load(mlp["fc1"], width, config.intermediate_size),
      .fc2 = Linear::Load(mlp["fc2"], config.intermediate_size, width),
      .quick_gelu = config.quick_gelu,
  };
}

at::Tensor ClipEncoderLayer::Forward(const at::Tensor& tokens) const {
  const at::Tensor h = tokens + self_attn.Forward(layer_norm1.Forward(tokens));
  const at::Tensor wide = fc1.Forward(layer_norm2.Forward(h));
  return h + fc2.Forward(quick_gelu ? wide * at::sigmoid(wide * 1.702) : at::gelu(wide));
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

at::Tensor ClipVision::Forward(const at::Tensor& pixels) const {
  const at::Tensor patches = at::conv2d(pixels.to(patch_embedding.options()), patch_embedding, {},
                                        patch_embedding.size(-1));
  at::Tensor tokens = at::cat({class_embedding, ToTokens(patches)}, 1) + position_embedding;
  tokens = pre_layrnorm.Forward(tokens);
  for (const ClipEncoderLayer& layer : layers) tokens = layer.Forward(tokens);
  const at::Tensor pooled = post_layernorm.Forward(tokens.narrow(1, 0, 1));
  return visual_projection.Forward(pooled).squeeze(1);
}

}  // namespace image_variations
