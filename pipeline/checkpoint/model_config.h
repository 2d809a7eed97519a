// The architecture, read from the checkpoint's own config.json files: plain values. The parsers
// refuse by name a key whose value the code does not implement, and give absent keys diffusers'
// (transformers') class defaults. Keys that diffusers 0.42.1 does not have either are ignored, as
// it does: whatever they change in the networks shows in the tensors. The defaults below are those
// of Stable Diffusion 1.x.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// unet/config.json, UNet2DConditionModel.
struct UnetConfig {
  int sample_size = 64;  // side of the default latents
  int in_channels = 4;
  int out_channels = 4;
  std::vector<int> block_out_channels;
  std::vector<bool> down_block_has_attention;  // CrossAttnDownBlock2D or DownBlock2D
  std::vector<bool> up_block_has_attention;    // CrossAttnUpBlock2D or UpBlock2D
  int layers_per_block = 2;
  std::vector<int>
      attention_heads;  // per down block; the file calls it attention_head_dim (diffusers#2011)
  int cross_attention_dim = 768;
  int norm_num_groups = 32;
  double norm_eps = 1e-5;
  bool use_linear_projection = false;
  bool flip_sin_to_cos = true;
  int freq_shift = 0;
};

// vae/config.json, AutoencoderKL: what the decoder needs.
struct VaeConfig {
  std::vector<int> block_out_channels;
  int layers_per_block = 2;
  int latent_channels = 4;
  int out_channels = 3;
  int norm_num_groups = 32;
  double scaling_factor = 0.18215;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  // Pixels per latent element: 2^(blocks - 1).
  int factor() const { return 1 << (static_cast<int>(block_out_channels.size()) - 1); }
};

// image_encoder/config.json (CLIPVisionModelWithProjection), and the vision_config of
// safety_checker/config.json with that file's top-level projection_dim.
struct ClipVisionConfig {
  int hidden_size = 1024;
  int intermediate_size = 4096;
  int num_hidden_layers = 24;
  int num_attention_heads = 16;
  int image_size = 224;
  int patch_size = 14;
  int projection_dim = 768;
  double layer_norm_eps = 1e-5;
  bool quick_gelu = true;  // hidden_act; false: exact gelu

  bool operator==(const ClipVisionConfig&) const = default;
};

// feature_extractor/preprocessor_config.json, CLIPImageProcessor.
struct PreprocessorConfig {
  int shortest_edge = 224;
  int crop_height = 224;
  int crop_width = 224;
  std::array<float, 3> image_mean{0.48145466f, 0.4578275f, 0.40821073f};
  std::array<float, 3> image_std{0.26862954f, 0.26130258f, 0.27577711f};
};

absl::StatusOr<UnetConfig> ParseUnetConfig(absl::string_view config_json);
absl::StatusOr<VaeConfig> ParseVaeConfig(absl::string_view config_json);
absl::StatusOr<ClipVisionConfig> ParseImageEncoderConfig(absl::string_view config_json);
absl::StatusOr<ClipVisionConfig> ParseSafetyCheckerConfig(absl::string_view config_json);
absl::StatusOr<PreprocessorConfig> ParsePreprocessorConfig(absl::string_view config_json);

}  // namespace image_variations
