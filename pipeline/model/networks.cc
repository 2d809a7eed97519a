#include "pipeline/model/networks.h"

#include <map>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr absl::string_view kTower = "vision_model.";

absl::Status CheckTower(absl::string_view folder, int image_size, int crop_width, int crop_height) {
  if (crop_width == image_size && crop_height == image_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      folder, "/config.json: image_size is ", image_size,
      ", but feature_extractor/preprocessor_config.json crops to ", crop_width, "x", crop_height));
}

absl::Status CheckConfigsFit(const ModelDir& dir) {
  const PreprocessorConfig& crop = dir.preprocessor;
  RETURN_IF_ERROR(
      CheckTower("image_encoder", dir.image_encoder.image_size, crop.crop_width, crop.crop_height));
  if (dir.safety_checker) {
    RETURN_IF_ERROR(CheckTower("safety_checker", dir.safety_checker->image_size, crop.crop_width,
                               crop.crop_height));
  }
  if (dir.unet.cross_attention_dim != dir.image_encoder.projection_dim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unet/config.json: cross_attention_dim is ", dir.unet.cross_attention_dim,
        ", but image_encoder/config.json has projection_dim ", dir.image_encoder.projection_dim));
  }
  const int latent = dir.vae.latent_channels;
  if (dir.unet.in_channels != latent || dir.unet.out_channels != latent) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unet/config.json: in_channels is ", dir.unet.in_channels, " and out_channels ",
        dir.unet.out_channels, ", but vae/config.json has latent_channels ", latent));
  }
  if (dir.vae.out_channels != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("vae/config.json: out_channels is ", dir.vae.out_channels, ", needed 3"));
  }
  return absl::OkStatus();
}

// The tensors of a vision tower without its projection, by name without prefix.
std::map<std::string, TensorView> TowerTensors(const ComponentWeights& weights) {
  std::map<std::string, TensorView> tensors;
  for (const std::string& name : weights.names()) {
    absl::string_view short_name = name;
    if (!absl::ConsumePrefix(&short_name, kTower)) continue;
    absl::ConsumePrefix(&short_name, kTower);  // doubled before transformers 5
    if (absl::EndsWith(short_name, ".position_ids")) continue;
    tensors.emplace(short_name, weights.Find(name).value());
  }
  return tensors;
}

// Compares all bytes, which is what a digest stands for, and lets their pages go.
bool HaveTheSameTower(const ComponentWeights& first, const ComponentWeights& second) {
  return absl::c_equal(TowerTensors(first), TowerTensors(second), [](const auto& a, const auto& b) {
    const bool is_same = a.first == b.first && a.second.type == b.second.type &&
                         a.second.shape == b.second.shape && a.second.bytes == b.second.bytes;
    ComponentWeights::Release(a.second);
    ComponentWeights::Release(b.second);
    return is_same;
  });
}

// Whether the safety checker looks with the image encoder's eyes: its projection may be another.
bool IsOneTower(const ModelDir& dir) {
  if (!dir.safety_checker) return false;
  ClipVisionConfig config = *dir.safety_checker;
  config.projection_dim = dir.image_encoder.projection_dim;
  return config == dir.image_encoder &&
         HaveTheSameTower(dir.image_encoder_weights, dir.safety_checker_weights);
}

}  // namespace

absl::StatusOr<Networks> LoadNetworks(const ModelDir& dir, Placement placement) {
  RETURN_IF_ERROR(CheckConfigsFit(dir));
  WeightLoader unet(dir.unet_weights, placement);
  WeightLoader vae(dir.vae_weights, placement);
  WeightLoader image_encoder(dir.image_encoder_weights, placement);
  WeightLoader safety_checker(dir.safety_checker_weights, placement);
  for (const char* encoder_side : {"encoder.", "quant_conv."}) vae.IgnorePrefix(encoder_side);
  // A whole CLIPModel, as the checkpoint's first revision has, brings its text tower.
  for (const char* text_side : {"text_model.", "text_projection.", "logit_scale"}) {
    image_encoder.IgnorePrefix(text_side);
  }
  Networks networks = {
      .placement = placement,
      .preprocessor = dir.preprocessor,
      .unet = Unet::Load(WeightScope(unet), dir.unet),
      .vae = VaeDecoder::Load(WeightScope(vae), dir.vae, dir.unet.sample_size),
      .image_encoder = ClipVision::Load(WeightScope(image_encoder), dir.image_encoder),
      .is_one_tower = IsOneTower(dir),
  };
  if (networks.is_one_tower) safety_checker.IgnorePrefix(kTower);
  if (dir.safety_checker) {
    networks.safety_checker =
        SafetyHead::Load(WeightScope(safety_checker), *dir.safety_checker,
                         networks.is_one_tower ? &networks.image_encoder : nullptr);
  }
  std::vector<std::string> problems;
  for (WeightLoader* loader : {&unet, &vae, &image_encoder, &safety_checker}) {
    const absl::Status status = std::move(*loader).Finish();
    if (!status.ok()) problems.emplace_back(status.message());
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  return networks;
}

}  // namespace image_variations
