#include "pipeline/checkpoint/model_dir.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/folder.h"
#include "pipeline/base/json_value.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/sha256.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"
#include "pipeline/checkpoint/hub_cache.h"
#include "pipeline/checkpoint/weight_files.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxConfigBytes = 1 << 20;

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
  std::optional<HubSnapshot> snapshot;
};

absl::Status SayHowToConvert(const fs::path& file) {
  return absl::FailedPreconditionError(absl::StrCat(
      file.string(), ": a single file; this program reads folders in diffusers' layout, and never ",
      "unpickles. Convert it once: ", ConvertCommand(file.string())));
}

absl::StatusOr<Location> LocateFolder(const fs::path& folder) {
  if (Exists(folder / "model_index.json") || Exists(folder / "snapshots")) {
    ASSIGN_OR_RETURN(std::optional<HubSnapshot> snapshot, IdentifySnapshot(folder.string()));
    if (snapshot) return Location{snapshot->folder, snapshot->reference.repository, snapshot};
  }
  return Location{folder, LastName(folder.string()), std::nullopt};
}

// What `model` is, in this order: a folder, a file (which gets its own error), a name in the cache.
absl::StatusOr<Location> Locate(const std::string& model, const std::string& hub_cache) {
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (fs::is_directory(status)) return LocateFolder(model);
  if (fs::is_regular_file(status)) return SayHowToConvert(model);
  if (status.type() != fs::file_type::not_found) {
    return absl::InvalidArgumentError(absl::StrCat(
        model, ": ", error ? error.message() : std::string("neither a folder nor a file")));
  }
  const std::optional<HubReference> reference = HubReference::Parse(model);
  if (!reference) return absl::NotFoundError(absl::StrCat(model, ": no such folder"));
  ASSIGN_OR_RETURN(HubSnapshot snapshot, FindSnapshot(hub_cache, *reference));
  return Location{snapshot.folder, reference->repository, std::move(snapshot)};
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
absl::StatusOr<std::string> ComponentClass(const JsonValue& index, const Component& component) {
  const JsonValue* found = index.Find(component.name);
  const JsonValue::Array* pair = found == nullptr ? nullptr : found->AsArray();
  if (pair == nullptr || pair->size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(component.name, " is not a pair of library and class"));
  }
  const JsonValue& value = (*pair)[1];
  const std::string name = value.AsString() == nullptr ? "" : *value.AsString();
  const auto& known = component.classes;
  if (known.empty() || std::find(known.begin(), known.end(), name) != known.end()) return name;
  return absl::InvalidArgumentError(absl::StrCat(component.name, ": class ", value.Text(),
                                                 " is not implemented, only ", known[0], " is"));
}

// Classes by component name.
absl::StatusOr<std::map<std::string, std::string>> ParseModelIndex(absl::string_view text) {
  ASSIGN_OR_RETURN(const JsonValue index, ParseStrictJson(text, /*max_depth=*/4));
  if (index.AsObject() == nullptr) return absl::InvalidArgumentError("not a JSON object");
  const JsonValue* pipeline = index.Find("_class_name");
  const std::string name = pipeline == nullptr ? "is absent" : pipeline->Text();
  if (name != "\"StableDiffusionImageVariationPipeline\"") {
    return absl::InvalidArgumentError(absl::StrCat(
        "_class_name ", name, ": only StableDiffusionImageVariationPipeline is implemented"));
  }
  std::map<std::string, std::string> classes;
  for (const Component& component : ImplementedComponents()) {
    ASSIGN_OR_RETURN(classes[component.name], ComponentClass(index, component));
  }
  return classes;
}

// Reads the small files of a model folder, and holds each against the manifest.
class ConfigFolder {
 public:
  ConfigFolder(fs::path folder, const Manifest& manifest)
      : folder_(std::move(folder)), manifest_(manifest) {}

  template <typename Parser>
  auto Read(const char* file, Parser parser) const -> decltype(parser("")) {
    ASSIGN_OR_RETURN(const std::string text,
                     ReadSmallFile((folder_ / file).string(), kMaxConfigBytes));
    RETURN_IF_ERROR(manifest_.Check(file, Sha256OfText(text)));
    auto parsed = parser(text);
    if (!parsed.ok()) return WithPath(folder_ / file, parsed.status());
    return parsed;
  }

 private:
  const fs::path folder_;
  const Manifest& manifest_;
};

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
  const ConfigFolder configs(folder, model.manifest);
  constexpr char kScheduler[] = "scheduler/scheduler_config.json";
  ASSIGN_OR_RETURN(auto classes, configs.Read("model_index.json", ParseModelIndex));
  ASSIGN_OR_RETURN(model.sampler, configs.Read(kScheduler, ParseSamplerConfig));
  ASSIGN_OR_RETURN(const std::string sampler_class, configs.Read(kScheduler, ParseClassName));
  if (sampler_class != classes["scheduler"]) {
    return WithPath(folder / kScheduler, absl::InvalidArgumentError(absl::StrCat(
                                             "_class_name is ", sampler_class,
                                             ", model_index.json says ", classes["scheduler"])));
  }
  ASSIGN_OR_RETURN(model.unet, configs.Read("unet/config.json", ParseUnetConfig));
  ASSIGN_OR_RETURN(model.vae, configs.Read("vae/config.json", ParseVaeConfig));
  ASSIGN_OR_RETURN(model.image_encoder,
                   configs.Read("image_encoder/config.json", ParseImageEncoderConfig));
  ASSIGN_OR_RETURN(model.preprocessor, configs.Read("feature_extractor/preprocessor_config.json",
                                                    ParsePreprocessorConfig));
  if (!classes["safety_checker"].empty()) {
    ASSIGN_OR_RETURN(model.safety_checker,
                     configs.Read("safety_checker/config.json", ParseSafetyCheckerConfig));
  }
  const absl::Status status = CheckTogether(model);
  return status.ok() ? status : WithPath(folder, status);
}

absl::Status ReadFolder(const std::string& folder, ModelDir& model) {
  ASSIGN_OR_RETURN(model.manifest, Manifest::Read(folder));
  RETURN_IF_ERROR(ReadConfigs(folder, model));
  ASSIGN_OR_RETURN(model.unet_weights, OpenWeights(folder, "unet", "diffusion_pytorch_model"));
  ASSIGN_OR_RETURN(model.vae_weights, OpenWeights(folder, "vae", "diffusion_pytorch_model"));
  ASSIGN_OR_RETURN(model.image_encoder_weights, OpenWeights(folder, "image_encoder", "model"));
  if (!model.safety_checker) return absl::OkStatus();
  ASSIGN_OR_RETURN(model.safety_checker_weights, OpenWeights(folder, "safety_checker", "model"));
  return absl::OkStatus();
}

absl::StatusOr<ModelDir> OpenModel(const std::string& model, const std::string& hub_cache) {
  ASSIGN_OR_RETURN(const Location location, Locate(model, hub_cache));
  ModelDir dir;
  dir.model_id = location.model_id;
  if (location.snapshot) dir.revision = location.snapshot->commit;
  const absl::Status status = ReadFolder(location.folder.string(), dir);
  if (absl::IsNotFound(status) && location.snapshot) {
    return absl::NotFoundError(
        absl::StrCat(status.message(), "; ", HowToComplete(*location.snapshot)));
  }
  if (!status.ok()) return status;
  return dir;
}

absl::StatusOr<std::map<std::string, std::string>> DigestComponents(const ModelDir& model) {
  std::map<std::string, std::string> digests;
  for (const ComponentWeights* weights :
       {&model.unet_weights, &model.vae_weights, &model.image_encoder_weights,
        &model.safety_checker_weights}) {
    std::vector<std::string> of_files;
    for (const SafetensorsFile& file : weights->files) {
      const std::string digest = file.Sha256();
      const std::string name = fs::path(file.path()).filename().string();
      RETURN_IF_ERROR(model.manifest.Check(absl::StrCat(weights->folder, "/", name), digest));
      of_files.push_back(digest);
    }
    if (of_files.empty()) continue;
    digests[weights->folder] =
        of_files.size() == 1 ? of_files[0] : Sha256OfText(absl::StrJoin(of_files, "\n"));
  }
  return digests;
}

}  // namespace

absl::StatusOr<ModelDir> ModelDir::Open(const std::string& model, const std::string& hub_cache) {
  return GuardMemory([&] { return OpenModel(model, hub_cache); });
}

absl::StatusOr<std::map<std::string, std::string>> ComponentDigests(const ModelDir& model) {
  return GuardMemory([&] { return DigestComponents(model); });
}

}  // namespace image_variations
