#include "pipeline/checkpoint/model_dir.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"
#include "pipeline/checkpoint/weight_files.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr absl::string_view kHubCachePrefix = "models--";  // models--<org>--<repository>

absl::Status WithPath(const fs::path& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path.string(), ": ", status.message()));
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

struct Location {
  fs::path folder;
  std::string model_id;
  std::string revision;
};

Location NameSnapshot(const fs::path& folder) {
  std::error_code error;
  fs::path real = fs::canonical(folder, error);
  if (!real.has_filename()) real = real.parent_path();
  const fs::path repository = real.parent_path().parent_path();
  const std::string name = repository.filename().string();
  if (!error && real.parent_path().filename() == "snapshots" &&
      absl::StartsWith(name, kHubCachePrefix)) {
    return {folder, absl::StrReplaceAll(absl::StripPrefix(name, kHubCachePrefix), {{"--", "/"}}),
            real.filename().string()};
  }
  fs::path given = fs::absolute(folder, error).lexically_normal();
  if (!given.has_filename()) given = given.parent_path();
  return {folder, given.filename().string(), ""};
}

// The folder with model_index.json: `path` itself, or what refs/main of a Hugging Face cache's
// repository folder points to.
absl::StatusOr<Location> Locate(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat(path.string(), ": no such folder"));
  }
  if (Exists(path / "snapshots") && !Exists(path / "model_index.json")) {
    ASSIGN_OR_RETURN(const std::string revision,
                     ReadSmallFile((path / "refs" / "main").string(), kMaxConfigBytes));
    return NameSnapshot(path / "snapshots" / std::string(absl::StripAsciiWhitespace(revision)));
  }
  return NameSnapshot(path);
}

// What the code implements of model_index.json's components; scheduler classes are
// ParseSamplerConfig's business.
struct Component {
  const char* name;
  std::vector<std::string> classes;
};

std::vector<Component> ImplementedComponents() {
  return {{"feature_extractor",
           {"CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast",
            "CLIPFeatureExtractor"}},
          {"image_encoder", {"CLIPVisionModelWithProjection"}},
          {"safety_checker", {"StableDiffusionSafetyChecker", ""}},
          {"scheduler", {}},
          {"unet", {"UNet2DConditionModel"}},
          {"vae", {"AutoencoderKL"}}};
}

// The class of ["library", "class"], empty for [null, null]: saved without this component.
absl::StatusOr<std::string> ComponentClass(const json& index, const Component& component) {
  const auto found = index.find(component.name);
  if (found == index.end() || !found->is_array() || found->size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(component.name, " is not a pair of library and class"));
  }
  const json& value = (*found)[1];
  const std::string name = value.is_string() ? value.get<std::string>() : "";
  const auto& known = component.classes;
  if (known.empty() || std::find(known.begin(), known.end(), name) != known.end()) return name;
  return absl::InvalidArgumentError(absl::StrCat(component.name, ": class ", value.dump(),
                                                 " is not implemented, only ", known[0], " is"));
}

// Classes by component name.
absl::StatusOr<std::map<std::string, std::string>> ParseModelIndex(absl::string_view text) {
  ASSIGN_OR_RETURN(const json index, ParseStrictJson(text, /*max_depth=*/4));
  if (!index.is_object()) return absl::InvalidArgumentError("not a JSON object");
  const auto pipeline = index.find("_class_name");
  if (pipeline == index.end() || *pipeline != "StableDiffusionImageVariationPipeline") {
    return absl::InvalidArgumentError(
        absl::StrCat("_class_name ", pipeline == index.end() ? "is absent" : pipeline->dump(),
                     ": only StableDiffusionImageVariationPipeline is implemented"));
  }
  std::map<std::string, std::string> classes;
  for (const Component& component : ImplementedComponents()) {
    ASSIGN_OR_RETURN(classes[component.name], ComponentClass(index, component));
  }
  return classes;
}

template <typename Parser>
auto ReadAndParse(const fs::path& path, Parser parser) -> decltype(parser("")) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path.string(), kMaxConfigBytes));
  auto parsed = parser(text);
  if (!parsed.ok()) return WithPath(path, parsed.status());
  return parsed;
}

absl::StatusOr<std::string> ParseClassName(absl::string_view scheduler_config_json) {
  return ConfigReader(scheduler_config_json).String("_class_name", "");
}

absl::Status CheckEqual(absl::string_view left, int left_value, absl::string_view right,
                        int right_value) {
  if (left_value == right_value) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(left, " is ", left_value, " but ", right, " is ",
                                                 right_value, ": the components do not fit"));
}

absl::Status CheckPreprocessor(const PreprocessorConfig& preprocessor, absl::string_view tower,
                               int image_size) {
  const std::string name = absl::StrCat(tower, " image_size");
  RETURN_IF_ERROR(
      CheckEqual("feature_extractor crop_size.height", preprocessor.crop_height, name, image_size));
  return CheckEqual("feature_extractor crop_size.width", preprocessor.crop_width, name, image_size);
}

// Each config is right by itself; are they of one model?
absl::Status CheckTogether(const ModelDir& model) {
  RETURN_IF_ERROR(CheckEqual("image_encoder projection_dim", model.image_encoder.projection_dim,
                             "unet cross_attention_dim", model.unet.cross_attention_dim));
  RETURN_IF_ERROR(CheckEqual("vae latent_channels", model.vae.latent_channels, "unet in_channels",
                             model.unet.in_channels));
  RETURN_IF_ERROR(CheckEqual("unet out_channels", model.unet.out_channels, "unet in_channels",
                             model.unet.in_channels));
  RETURN_IF_ERROR(
      CheckPreprocessor(model.preprocessor, "image_encoder", model.image_encoder.image_size));
  if (!model.safety_checker) return absl::OkStatus();
  return CheckPreprocessor(model.preprocessor, "safety_checker", model.safety_checker->image_size);
}

absl::Status ReadConfigs(const fs::path& folder, ModelDir& model) {
  const fs::path index_path = folder / "model_index.json";
  ASSIGN_OR_RETURN(auto classes, ReadAndParse(index_path, ParseModelIndex));
  const fs::path scheduler_path = folder / "scheduler" / "scheduler_config.json";
  ASSIGN_OR_RETURN(model.sampler, ReadAndParse(scheduler_path, ParseSamplerConfig));
  ASSIGN_OR_RETURN(const std::string sampler_class, ReadAndParse(scheduler_path, ParseClassName));
  if (sampler_class != classes["scheduler"]) {
    return WithPath(scheduler_path, absl::InvalidArgumentError(absl::StrCat(
                                        "_class_name is ", sampler_class,
                                        ", model_index.json says ", classes["scheduler"])));
  }
  ASSIGN_OR_RETURN(model.unet, ReadAndParse(folder / "unet" / "config.json", ParseUnetConfig));
  ASSIGN_OR_RETURN(model.vae, ReadAndParse(folder / "vae" / "config.json", ParseVaeConfig));
  ASSIGN_OR_RETURN(model.image_encoder,
                   ReadAndParse(folder / "image_encoder" / "config.json", ParseImageEncoderConfig));
  ASSIGN_OR_RETURN(model.preprocessor,
                   ReadAndParse(folder / "feature_extractor" / "preprocessor_config.json",
                                ParsePreprocessorConfig));
  if (!classes["safety_checker"].empty()) {
    ASSIGN_OR_RETURN(model.safety_checker, ReadAndParse(folder / "safety_checker" / "config.json",
                                                        ParseSafetyCheckerConfig));
  }
  const absl::Status status = CheckTogether(model);
  return status.ok() ? status : WithPath(folder, status);
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  ASSIGN_OR_RETURN(File file, File::Open(path));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  IV_CHECK(EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  std::vector<char> buffer(1 << 20);
  for (;;) {
    ASSIGN_OR_RETURN(const int64_t count, file.Read(absl::MakeSpan(buffer)));
    if (count == 0) break;
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(count));
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string Sha256OfText(absl::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  IV_CHECK(EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

}  // namespace

absl::StatusOr<ModelDir> ModelDir::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const Location location, Locate(path));
  ModelDir model;
  model.model_id = location.model_id;
  model.revision = location.revision;
  RETURN_IF_ERROR(ReadConfigs(location.folder, model));

  const std::string folder = location.folder.string();
  ASSIGN_OR_RETURN(model.unet_weights, OpenWeights(folder, "unet", "diffusion_pytorch_model"));
  ASSIGN_OR_RETURN(model.vae_weights, OpenWeights(folder, "vae", "diffusion_pytorch_model"));
  ASSIGN_OR_RETURN(model.image_encoder_weights, OpenWeights(folder, "image_encoder", "model"));
  if (model.safety_checker) {
    ASSIGN_OR_RETURN(model.safety_checker_weights, OpenWeights(folder, "safety_checker", "model"));
  }
  return model;
}

absl::StatusOr<std::map<std::string, std::string>> ComponentDigests(const ModelDir& model) {
  std::map<std::string, std::string> digests;
  for (const ComponentWeights* weights :
       {&model.unet_weights, &model.vae_weights, &model.image_encoder_weights,
        &model.safety_checker_weights}) {
    std::vector<std::string> of_files;
    for (const SafetensorsFile& file : weights->files) {
      ASSIGN_OR_RETURN(of_files.emplace_back(), Sha256OfFile(file.path()));
    }
    if (of_files.empty()) continue;
    digests[weights->folder] =
        of_files.size() == 1 ? of_files[0] : Sha256OfText(absl::StrJoin(of_files, "\n"));
  }
  return digests;
}

}  // namespace image_variations
