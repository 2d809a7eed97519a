#include "pipeline/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace image_variations {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// unet/config.json of sd-image-variations-diffusers v2.0: keys of later versions are absent.
constexpr char kPublishedUnet[] = R"({
  "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.9.0", "act_fn": "silu",
  "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
  "center_input_sample": false, "cross_attention_dim": 768,
  "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                       "DownBlock2D"],
  "downsample_padding": 1, "dual_cross_attention": false, "flip_sin_to_cos": true,
  "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
  "norm_eps": 1e-05, "norm_num_groups": 32, "num_class_embeds": null,
  "only_cross_attention": false, "out_channels": 4, "sample_size": 64,
  "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                     "CrossAttnUpBlock2D"],
  "use_linear_projection": false})";

// A config with one key set to another value.
std::string With(absl::string_view config, absl::string_view key, absl::string_view value) {
  std::string text(config);
  const std::string quoted = absl::StrCat("\"", key, "\":");
  const size_t at = text.find(quoted);
  if (at == std::string::npos) return absl::StrCat("{", quoted, " ", value, ", ", text.substr(1));
  size_t end = at + quoted.size();
  for (int depth = 0; depth > 0 || (text[end] != ',' && text[end] != '}'); ++end) {
    depth += (text[end] == '[' || text[end] == '{') - (text[end] == ']' || text[end] == '}');
  }
  return text.replace(at + quoted.size(), end - at - quoted.size(), absl::StrCat(" ", value));
}

struct Refusal {
  const char* key;
  const char* value;
  const char* message;
};

TEST(ParseUnetConfig, ReadsThePublishedModel) {
  const auto config = ParseUnetConfig(kPublishedUnet);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->sample_size, 64);
  EXPECT_THAT(config->block_out_channels, ElementsAre(320, 640, 1280, 1280));
  EXPECT_THAT(config->down_block_has_attention, ElementsAre(true, true, true, false));
  EXPECT_THAT(config->up_block_has_attention, ElementsAre(false, true, true, true));
  EXPECT_THAT(config->attention_heads, ElementsAre(8, 8, 8, 8));
  EXPECT_EQ(config->layers_per_block, 2);
  EXPECT_EQ(config->cross_attention_dim, 768);
  EXPECT_EQ(config->norm_eps, 1e-5);
  EXPECT_FALSE(config->use_linear_projection);
  EXPECT_TRUE(config->flip_sin_to_cos);
}

TEST(ParseUnetConfig, TakesClassDefaultsForAbsentKeys) {
  const auto config = ParseUnetConfig(R"({"sample_size": 32})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->block_out_channels, ElementsAre(320, 640, 1280, 1280));
  EXPECT_EQ(config->cross_attention_dim, 1280);
  EXPECT_THAT(config->attention_heads, ElementsAre(8, 8, 8, 8));
}

TEST(ParseUnetConfig, ReadsOneHeadCountPerBlock) {
  const auto config =
      ParseUnetConfig(With(kPublishedUnet, "attention_head_dim", "[5, 10, 20, 20]"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->attention_heads, ElementsAre(5, 10, 20, 20));
}

TEST(ParseUnetConfig, TakesTheSampleSizeOfOldFilesAsDiffusersDoes) {
  const struct {
    const char *version, *size;
    int expected;
  } cases[] = {{"0.3.0", "32", 64},      {"0.8.1", "64", 64},  {"0.8.1", "96", 96},
               {"0.9.0", "32", 32},      {"0.42.1", "32", 32}, {"1.0.0", "32", 32},
               {"0.9.0.dev0", "32", 32}, {"", "32", 32}};
  for (const auto& [version, size, expected] : cases) {
    const std::string config = With(kPublishedUnet, "sample_size", size);
    EXPECT_EQ(ParseUnetConfig(With(config, "_diffusers_version", absl::StrCat("\"", version, "\"")))
                  ->sample_size,
              expected)
        << version << " " << size;
  }
}

// What becomes of every parameter of UNet2DConditionModel in diffusers 0.42.1, set to something
// else than its default.
TEST(ParseUnetConfig, KnowsEveryKeyOfDiffusers) {
  const std::pair<const char*, const char*> read[] = {
      {"sample_size", "96"},
      {"in_channels", "9"},
      {"out_channels", "8"},
      {"flip_sin_to_cos", "false"},
      {"freq_shift", "1"},
      {"down_block_types", R"(["DownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"])"},
      {"up_block_types", R"(["UpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"])"},
      {"block_out_channels", "[64, 64, 64, 64]"},
      {"layers_per_block", "1"},
      {"norm_num_groups", "16"},
      {"norm_eps", "1e-6"},
      {"cross_attention_dim", "1024"},
      {"attention_head_dim", "16"},
      {"use_linear_projection", "true"}};
  const std::pair<const char*, const char*> without_effect[] = {
      {"dropout", "0.1"},                      // of training
      {"addition_embed_type_num_heads", "8"},  // of an addition_embed_type
      {"addition_time_embed_dim", "256"}};
  const std::pair<const char*, const char*> refused[] = {
      {"center_input_sample", "true"},
      {"mid_block_type", "\"UNetMidBlock2DSimpleCrossAttn\""},
      {"only_cross_attention", "true"},
      {"downsample_padding", "0"},
      {"mid_block_scale_factor", "2"},
      {"act_fn", "\"gelu\""},
      {"transformer_layers_per_block", "2"},
      {"reverse_transformer_layers_per_block", "[[1]]"},
      {"encoder_hid_dim", "1"},
      {"encoder_hid_dim_type", "\"text_proj\""},
      {"num_attention_heads", "8"},
      {"dual_cross_attention", "true"},
      {"class_embed_type", "\"timestep\""},
      {"addition_embed_type", "\"image\""},
      {"num_class_embeds", "10"},
      {"upcast_attention", "true"},
      {"resnet_time_scale_shift", "\"scale_shift\""},
      {"resnet_skip_time_act", "true"},
      {"resnet_out_scale_factor", "2"},
      {"time_embedding_type", "\"fourier\""},
      {"time_embedding_dim", "64"},
      {"time_embedding_act_fn", "\"silu\""},
      {"timestep_post_act", "\"silu\""},
      {"time_cond_proj_dim", "64"},
      {"conv_in_kernel", "1"},
      {"conv_out_kernel", "1"},
      {"projection_class_embeddings_input_dim", "64"},
      {"attention_type", "\"gated\""},
      {"class_embeddings_concat", "true"},
      {"mid_block_only_cross_attention", "true"},
      {"cross_attention_norm", "\"layer_norm\""}};
  for (const auto& [key, value] : read) {
    EXPECT_TRUE(ParseUnetConfig(With(kPublishedUnet, key, value)).ok()) << key;
  }
  for (const auto& [key, value] : without_effect) {
    EXPECT_TRUE(ParseUnetConfig(With(kPublishedUnet, key, value)).ok()) << key;
  }
  for (const auto& [key, value] : refused) {
    EXPECT_THAT(std::string(ParseUnetConfig(With(kPublishedUnet, key, value)).status().message()),
                HasSubstr(key));
  }
}

TEST(ParseUnetConfig, IgnoresKeysThatDiffusersDoesNotHaveEither) {
  EXPECT_TRUE(ParseUnetConfig(With(kPublishedUnet, "made_by", "\"us\"")).ok());
}

TEST(ParseUnetConfig, ReadsListsOfEqualNumbersAsTheNumber) {
  EXPECT_EQ(
      ParseUnetConfig(With(kPublishedUnet, "layers_per_block", "[2, 2, 2, 2]"))->layers_per_block,
      2);
  EXPECT_TRUE(
      ParseUnetConfig(With(kPublishedUnet, "transformer_layers_per_block", "[1, 1, 1, 1]")).ok());
}

TEST(ParseUnetConfig, RefusesByKeyWhatIsNotImplemented) {
  const Refusal refusals[] = {
      {"_class_name", "\"UNet2DModel\"", "_class_name"},
      {"act_fn", "\"mish\"", "act_fn = \"mish\" is not implemented, only \"silu\" is"},
      {"addition_embed_type", "\"text\"", "addition_embed_type"},
      {"attention_head_dim", "[8, 8]", "attention_head_dim has 2 entries"},
      {"attention_head_dim", "7", "attention_head_dim = 7 does not divide 320"},
      {"attention_head_dim", "0", "attention_head_dim must be an integer from 1"},
      {"block_out_channels", "[]", "block_out_channels"},
      {"block_out_channels", "[330, 640, 1280, 1280]", "norm_num_groups = 32 does not divide 330"},
      {"block_out_channels", "[320, 640, 1280]", "down_block_types has 4 entries"},
      {"block_out_channels", "[33, 66, 66, 66]", "block_out_channels begins with 33"},
      {"center_input_sample", "true", "center_input_sample"},
      {"class_embed_type", "\"timestep\"", "class_embed_type"},
      {"conv_in_kernel", "5", "conv_in_kernel"},
      {"cross_attention_dim", "[768, 1024]", "cross_attention_dim"},
      {"down_block_types",
       "[\"DownBlock2D\", \"AttnDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]",
       "AttnDownBlock2D"},
      {"dual_cross_attention", "true", "dual_cross_attention"},
      {"encoder_hid_dim", "1024", "encoder_hid_dim"},
      {"freq_shift", "2", "freq_shift"},
      {"in_channels", "\"four\"", "in_channels must be an integer"},
      {"in_channels", "4.5", "in_channels must be an integer"},
      {"layers_per_block", "[1, 2, 2, 2]", "layers_per_block"},
      {"mid_block_type", "\"UNetMidBlock2D\"", "mid_block_type"},
      {"norm_eps", "0", "norm_eps must be a number above 0"},
      {"num_class_embeds", "10", "num_class_embeds"},
      {"only_cross_attention", "true", "only_cross_attention"},
      {"resnet_time_scale_shift", "\"scale_shift\"", "resnet_time_scale_shift"},
      {"sample_size", "null", "sample_size is missing"},
      {"time_embedding_type", "\"fourier\"", "time_embedding_type"},
      {"transformer_layers_per_block", "2", "transformer_layers_per_block"},
      {"upcast_attention", "true", "upcast_attention"},
  };
  for (const auto& [key, value, message] : refusals) {
    const absl::Status status = ParseUnetConfig(With(kPublishedUnet, key, value)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(ParseUnetConfig, RefusesWhatIsNotAJsonObject) {
  for (const char* text : {"", "[]", "{", "{\"a\": 1, \"a\": 2}", "null"}) {
    EXPECT_EQ(ParseUnetConfig(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

constexpr char kPublishedVae[] = R"({
  "_class_name": "AutoencoderKL", "_name_or_path": "stabilityai/sd-vae-ft-mse", "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512], "in_channels": 3, "latent_channels": 4,
  "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 256,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
                     "UpDecoderBlock2D"]})";

TEST(ParseVaeConfig, ReadsThePublishedModel) {
  const auto config = ParseVaeConfig(kPublishedVae);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->factor(), 8);
  EXPECT_EQ(config->scaling_factor, 0.18215);
  EXPECT_TRUE(config->use_post_quant_conv);
  EXPECT_TRUE(config->mid_block_add_attention);
}

TEST(ParseVaeConfig, RefusesByKeyWhatIsNotImplemented) {
  const Refusal refusals[] = {
      {"latents_mean", "[0, 0, 0, 0]", "latents_mean"},
      {"shift_factor", "0.1", "shift_factor"},
      {"scaling_factor", "-1", "scaling_factor"},
      {"out_channels", "1", "out_channels"},
      {"up_block_types", "[\"AttnUpDecoderBlock2D\"]", "AttnUpDecoderBlock2D"},
      {"up_block_types", "[\"UpDecoderBlock2D\"]", "up_block_types has 1 entries"},
      {"use_post_quant_conv", "1", "use_post_quant_conv must be true or false"},
  };
  for (const auto& [key, value, message] : refusals) {
    const absl::Status status = ParseVaeConfig(With(kPublishedVae, key, value)).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << key;
  }
}

// As for the UNet: every parameter of AutoencoderKL; what only the encoder or tiling uses has no
// effect on pictures.
TEST(ParseVaeConfig, KnowsEveryKeyOfDiffusers) {
  const std::pair<const char*, const char*> accepted[] = {
      {"in_channels", "1"},
      {"down_block_types", "[\"AttnDownEncoderBlock2D\"]"},
      {"layers_per_block", "3"},
      {"block_out_channels", "[64, 64, 64, 64]"},
      {"latent_channels", "8"},
      {"norm_num_groups", "16"},
      {"sample_size", "512"},
      {"scaling_factor", "0.13025"},
      {"force_upcast", "false"},
      {"use_quant_conv", "false"},
      {"use_post_quant_conv", "false"},
      {"mid_block_add_attention", "false"}};
  const std::pair<const char*, const char*> refused[] = {
      {"out_channels", "1"},   {"up_block_types", "[\"UpBlock2D\"]"},
      {"act_fn", "\"gelu\""},  {"shift_factor", "0.1"},
      {"latents_mean", "[0]"}, {"latents_std", "[1]"}};
  for (const auto& [key, value] : accepted) {
    EXPECT_TRUE(ParseVaeConfig(With(kPublishedVae, key, value)).ok()) << key;
  }
  for (const auto& [key, value] : refused) {
    EXPECT_THAT(std::string(ParseVaeConfig(With(kPublishedVae, key, value)).status().message()),
                HasSubstr(key));
  }
}

constexpr char kVitL14[] = R"({"model_type": "clip_vision_model", "hidden_size": 1024,
  "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
  "image_size": 224, "patch_size": 14, "hidden_act": "quick_gelu", "projection_dim": 768})";

TEST(ParseImageEncoderConfig, ReadsVitL14) {
  const auto config = ParseImageEncoderConfig(kVitL14);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 1024);
  EXPECT_EQ(config->num_hidden_layers, 24);
  EXPECT_EQ(config->projection_dim, 768);
  EXPECT_EQ(config->layer_norm_eps, 1e-5);
  EXPECT_TRUE(config->quick_gelu);
}

TEST(ParseImageEncoderConfig, TellsGeluFromQuickGelu) {
  EXPECT_FALSE(ParseImageEncoderConfig(With(kVitL14, "hidden_act", "\"gelu\""))->quick_gelu);
  EXPECT_FALSE(ParseImageEncoderConfig(With(kVitL14, "hidden_act", "\"relu\"")).ok());
}

TEST(ParseImageEncoderConfig, RefusesAPatchLargerThanTheImage) {
  EXPECT_THAT(
      std::string(ParseImageEncoderConfig(With(kVitL14, "patch_size", "225")).status().message()),
      HasSubstr("patch_size = 225 is larger than image_size = 224"));
}

TEST(ParseSafetyCheckerConfig, TakesTheTopLevelsProjection) {
  const auto config = ParseSafetyCheckerConfig(
      R"({"projection_dim": 768, "vision_config": {"hidden_size": 1024, "num_attention_heads": 16,
          "projection_dim": 512}})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->projection_dim, 768);
  EXPECT_EQ(config->hidden_size, 1024);
}

TEST(ParseSafetyCheckerConfig, LetsTheDictOfOldFilesWin) {
  const auto config = ParseSafetyCheckerConfig(
      R"({"vision_config": {"hidden_size": 768},
          "vision_config_dict": {"hidden_size": 1024, "num_attention_heads": 16}})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 1024);
}

TEST(ParseSafetyCheckerConfig, NamesNestedKeys) {
  EXPECT_THAT(std::string(ParseSafetyCheckerConfig(R"({"vision_config": {"hidden_size": "big"}})")
                              .status()
                              .message()),
              HasSubstr("vision_config.hidden_size"));
  EXPECT_THAT(std::string(ParseSafetyCheckerConfig("{}").status().message()),
              HasSubstr("vision_config must be an object, is absent"));
}

TEST(ParsePreprocessorConfig, ReadsSizesAsIntegersAndAsObjects) {
  for (const char* text :
       {R"({"size": 64, "crop_size": 48})",
        R"({"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 48}})"}) {
    const auto config = ParsePreprocessorConfig(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->shortest_edge, 64);
    EXPECT_EQ(config->crop_height, 48);
    EXPECT_EQ(config->crop_width, 48);
  }
}

TEST(ParsePreprocessorConfig, RefusesByKeyWhatIsNotImplemented) {
  const Refusal refusals[] = {
      {"do_resize", "false", "do_resize"},
      {"do_center_crop", "false", "do_center_crop"},
      {"resample", "2", "resample"},
      {"rescale_factor", "1", "rescale_factor"},
      {"size", "{\"height\": 224, \"width\": 224}", "size.shortest_edge is missing"},
      {"crop_size", "{\"height\": 224}", "crop_size.width is missing"},
      {"crop_size", "-1", "crop_size"},
      {"image_mean", "[0.5]", "image_mean must have 3 numbers, has 1"},
      {"image_std", "[0.5, 0, 0.5]", "image_std"},
  };
  for (const auto& [key, value, message] : refusals) {
    const absl::Status status =
        ParsePreprocessorConfig(With(R"({"do_convert_rgb": true})", key, value)).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << key;
  }
}

}  // namespace
}  // namespace image_variations
