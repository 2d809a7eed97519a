#include "pipeline/checkpoint/model_config.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/config_reader.h"

namespace image_variations {
namespace {

using Range = ConfigReader::Range;

constexpr Range kChannels{1, 16384};
constexpr Range kCount{1, 1024};
constexpr Range kPixels{1, 8192};

// Whether each block has cross-attention, by the two class names that the code implements.
std::vector<bool> ReadBlockTypes(ConfigReader& in, absl::string_view key,
                                 std::vector<std::string> absent, absl::string_view attention,
                                 absl::string_view plain, size_t blocks) {
  std::vector<bool> has_attention;
  for (const std::string& type : in.Strings(key, std::move(absent))) {
    if (type != attention && type != plain) {
      in.Fail(absl::StrCat(key, ": ", type, " is not implemented, only ", attention, " and ", plain,
                           " are"));
    }
    has_attention.push_back(type == attention);
  }
  if (has_attention.size() != blocks) {
    in.Fail(absl::StrCat(key, " has ", has_attention.size(), " entries, block_out_channels has ",
                         blocks));
  }
  return has_attention;
}

void CheckDivides(ConfigReader& in, absl::string_view key, int divisor,
                  const std::vector<int>& channels) {
  for (const int count : channels) {
    if (count % divisor != 0) {
      in.Fail(absl::StrCat(key, " = ", divisor, " does not divide ", count, " channels"));
    }
  }
}

// One number for all blocks, or one per block.
std::vector<int> ReadPerBlock(ConfigReader& in, absl::string_view key, int absent, size_t blocks) {
  if (!in.IsList(key)) return std::vector<int>(blocks, in.Int(key, absent, kCount));
  std::vector<int> numbers = in.Ints(key, {absent}, kCount);
  if (numbers.size() != blocks) {
    in.Fail(
        absl::StrCat(key, " has ", numbers.size(), " entries, block_out_channels has ", blocks));
    numbers.resize(blocks, absent);
  }
  return numbers;
}

// Checkpoints of diffusers before 0.9.0 say 32 and mean 64, as diffusers' pipeline corrects it
// (pipeline_stable_diffusion_image_variation.py, __init__).
int ReadSampleSize(ConfigReader& in) {
  in.Require("sample_size");
  const int size = in.UniformInt("sample_size", 64, kCount);
  const std::vector<std::string> version =
      absl::StrSplit(in.String("_diffusers_version", ""), absl::MaxSplits('.', 2));
  int major = 0, minor = 0;
  const bool is_old = version.size() >= 2 && absl::SimpleAtoi(version[0], &major) &&
                      absl::SimpleAtoi(version[1], &minor) && major == 0 && minor < 9;
  return is_old ? std::max(size, 64) : size;
}

void RequireImplementedUnet(ConfigReader& in) {
  in.Only("_class_name", "UNet2DConditionModel");
  in.Only("act_fn", "silu");
  in.Only("attention_type", "default");
  in.Only("center_input_sample", false);
  in.Only("class_embeddings_concat", false);
  in.Only("conv_in_kernel", 3.0);
  in.Only("conv_out_kernel", 3.0);
  in.Only("downsample_padding", 1.0);
  in.Only("dual_cross_attention", false);
  in.Only("mid_block_only_cross_attention", false);
  in.Only("mid_block_scale_factor", 1.0);
  in.Only("mid_block_type", "UNetMidBlock2DCrossAttn");
  in.Only("only_cross_attention", false);
  in.Only("resnet_out_scale_factor", 1.0);
  in.Only("resnet_skip_time_act", false);
  in.Only("resnet_time_scale_shift", "default");
  in.Only("time_embedding_type", "positional");
  in.Only("upcast_attention", false);
  in.OnlyNull({"addition_embed_type", "class_embed_type", "cross_attention_norm", "encoder_hid_dim",
               "encoder_hid_dim_type", "num_attention_heads", "num_class_embeds",
               "projection_class_embeddings_input_dim", "reverse_transformer_layers_per_block",
               "time_cond_proj_dim", "time_embedding_act_fn", "time_embedding_dim",
               "timestep_post_act"});
  if (in.UniformInt("transformer_layers_per_block", 1, kCount) != 1) {
    in.Fail("transformer_layers_per_block is implemented only as 1");
  }
}

void RequireImplementedVae(ConfigReader& in, size_t blocks) {
  in.Only("_class_name", "AutoencoderKL");
  in.Only("act_fn", "silu");
  in.OnlyNull({"latents_mean", "latents_std", "shift_factor"});
  const std::vector<std::string> types =
      in.Strings("up_block_types", std::vector<std::string>{"UpDecoderBlock2D"});
  for (const std::string& type : types) {
    if (type != "UpDecoderBlock2D") {
      in.Fail(
          absl::StrCat("up_block_types: ", type, " is not implemented, only UpDecoderBlock2D is"));
    }
  }
  if (types.size() != blocks) {
    in.Fail(absl::StrCat("up_block_types has ", types.size(), " entries, block_out_channels has ",
                         blocks));
  }
}

// The keys of transformers' CLIPVisionConfig but projection_dim.
ClipVisionConfig ReadVisionTower(ConfigReader& in) {
  ClipVisionConfig config;
  config.hidden_size = in.Int("hidden_size", 768, kChannels);
  config.intermediate_size = in.Int("intermediate_size", 3072, {1, 65536});
  config.num_hidden_layers = in.Int("num_hidden_layers", 12, kCount);
  config.num_attention_heads = in.Int("num_attention_heads", 12, kCount);
  config.image_size = in.Int("image_size", 224, kPixels);
  config.patch_size = in.Int("patch_size", 32, kPixels);
  config.layer_norm_eps = in.Positive("layer_norm_eps", 1e-5);
  const std::string activation = in.String("hidden_act", "quick_gelu");
  config.quick_gelu = activation == "quick_gelu";
  if (!config.quick_gelu && activation != "gelu") {
    in.Fail(absl::StrCat("hidden_act = \"", activation,
                         "\" is not implemented, only \"quick_gelu\" and \"gelu\" are"));
  }
  in.Only("num_channels", 3.0);
  CheckDivides(in, "num_attention_heads", config.num_attention_heads, {config.hidden_size});
  if (config.patch_size > config.image_size) {
    in.Fail(absl::StrCat("patch_size = ", config.patch_size,
                         " is larger than image_size = ", config.image_size));
  }
  return config;
}

std::array<float, 3> ReadChannels(ConfigReader& in, absl::string_view key,
                                  std::array<float, 3> absent) {
  const std::vector<double> numbers =
      in.Numbers(key, std::vector<double>(absent.begin(), absent.end()));
  if (numbers.size() == 3) {
    return {static_cast<float>(numbers[0]), static_cast<float>(numbers[1]),
            static_cast<float>(numbers[2])};
  }
  in.Fail(absl::StrCat(key, " must have 3 numbers, has ", numbers.size()));
  return absent;
}

}  // namespace

absl::StatusOr<UnetConfig> ParseUnetConfig(absl::string_view config_json) {
  ConfigReader in(config_json);
  UnetConfig config;
  config.sample_size = ReadSampleSize(in);
  config.in_channels = in.Int("in_channels", 4, kCount);
  config.out_channels = in.Int("out_channels", 4, kCount);
  config.block_out_channels = in.Ints("block_out_channels", {320, 640, 1280, 1280}, kChannels);
  const size_t blocks = config.block_out_channels.size();
  config.down_block_has_attention = ReadBlockTypes(
      in, "down_block_types",
      {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
      "CrossAttnDownBlock2D", "DownBlock2D", blocks);
  config.up_block_has_attention = ReadBlockTypes(
      in, "up_block_types",
      {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
      "CrossAttnUpBlock2D", "UpBlock2D", blocks);
  config.layers_per_block = in.UniformInt("layers_per_block", 2, kCount);
  config.attention_heads = ReadPerBlock(in, "attention_head_dim", 8, blocks);
  config.cross_attention_dim = in.UniformInt("cross_attention_dim", 1280, kChannels);
  config.norm_num_groups = in.Int("norm_num_groups", 32, kCount);
  config.norm_eps = in.Positive("norm_eps", 1e-5);
  config.use_linear_projection = in.Bool("use_linear_projection", false);
  config.flip_sin_to_cos = in.Bool("flip_sin_to_cos", true);
  config.freq_shift = in.Int("freq_shift", 0, {0, 1});
  RequireImplementedUnet(in);
  if (config.block_out_channels[0] % 2 != 0) {
    in.Fail(absl::StrCat("block_out_channels begins with ", config.block_out_channels[0],
                         ", only even numbers are implemented there"));
  }
  CheckDivides(in, "norm_num_groups", config.norm_num_groups, config.block_out_channels);
  for (size_t i = 0; i < blocks; ++i) {
    CheckDivides(in, "attention_head_dim", config.attention_heads[i],
                 {config.block_out_channels[i]});
  }
  if (!in.status().ok()) return in.status();
  return config;
}

absl::StatusOr<VaeConfig> ParseVaeConfig(absl::string_view config_json) {
  ConfigReader in(config_json);
  VaeConfig config;
  config.block_out_channels = in.Ints("block_out_channels", {64}, kChannels);
  if (config.block_out_channels.size() > 8) in.Fail("block_out_channels has more than 8 entries");
  config.layers_per_block = in.Int("layers_per_block", 1, kCount);
  config.latent_channels = in.Int("latent_channels", 4, kCount);
  config.out_channels = in.Int("out_channels", 3, {3, 3});
  config.norm_num_groups = in.Int("norm_num_groups", 32, kCount);
  config.scaling_factor = in.Positive("scaling_factor", 0.18215);
  config.use_post_quant_conv = in.Bool("use_post_quant_conv", true);
  config.mid_block_add_attention = in.Bool("mid_block_add_attention", true);
  RequireImplementedVae(in, config.block_out_channels.size());
  CheckDivides(in, "norm_num_groups", config.norm_num_groups, config.block_out_channels);
  if (!in.status().ok()) return in.status();
  return config;
}

absl::StatusOr<ClipVisionConfig> ParseImageEncoderConfig(absl::string_view config_json) {
  ConfigReader in(config_json);
  in.Only("model_type", "clip_vision_model");
  ClipVisionConfig config = ReadVisionTower(in);
  config.projection_dim = in.Int("projection_dim", 512, kChannels);
  if (!in.status().ok()) return in.status();
  return config;
}

absl::StatusOr<ClipVisionConfig> ParseSafetyCheckerConfig(absl::string_view config_json) {
  ConfigReader in(config_json);
  in.Only("model_type", "clip");
  // Old files have the dict, or both; where both are, transformers lets the dict win.
  ConfigReader tower =
      in.Object(in.Has("vision_config_dict") ? "vision_config_dict" : "vision_config");
  ClipVisionConfig config = ReadVisionTower(tower);
  in.Merge(tower);
  config.projection_dim = in.Int("projection_dim", 512, kChannels);
  if (!in.status().ok()) return in.status();
  return config;
}

absl::StatusOr<PreprocessorConfig> ParsePreprocessorConfig(absl::string_view config_json) {
  ConfigReader in(config_json);
  PreprocessorConfig config;
  if (in.IsObject("size")) {
    ConfigReader size = in.Object("size");
    size.Require("shortest_edge");
    config.shortest_edge = size.Int("shortest_edge", 224, kPixels);
    in.Merge(size);
  } else {
    config.shortest_edge = in.Int("size", 224, kPixels);
  }
  if (in.IsObject("crop_size")) {
    ConfigReader crop = in.Object("crop_size");
    crop.Require("height");
    crop.Require("width");
    config.crop_height = crop.Int("height", 224, kPixels);
    config.crop_width = crop.Int("width", 224, kPixels);
    in.Merge(crop);
  } else {
    config.crop_height = config.crop_width = in.Int("crop_size", 224, kPixels);
  }
  for (const char* key : {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}) {
    in.Only(key, true);
  }
  in.Only("resample", 3.0);
  if (std::abs(in.Number("rescale_factor", 1.0 / 255) * 255 - 1) > 1e-6) {
    in.Fail("rescale_factor is implemented only as 1/255");
  }
  config.image_mean = ReadChannels(in, "image_mean", config.image_mean);
  config.image_std = ReadChannels(in, "image_std", config.image_std);
  for (const float deviation : config.image_std) {
    if (!(deviation > 0)) in.Fail(absl::StrCat("image_std has ", deviation, ", must be above 0"));
  }
  if (!in.status().ok()) return in.status();
  return config;
}

}  // namespace image_variations
