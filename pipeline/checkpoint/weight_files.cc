#include "pipeline/checkpoint/weight_files.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/folder.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"
#include "pipeline/checkpoint/hub_cache.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxIndexBytes = 16 << 20;

// Also true of a link whose target is missing: opening it then says so.
bool IsListed(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

bool HasPickle(const fs::path& folder) {
  for (const std::string& name : ListFolder(folder.string())) {
    const std::string extension = fs::path(name).extension().string();
    if (extension == ".bin" || extension == ".ckpt" || extension == ".pt") return true;
  }
  return false;
}

struct Candidate {
  std::string single;
  std::vector<std::string> indexes;  // several spellings, over the years
};

// In order of preference; with variant fp16: stem.fp16.safetensors.
std::vector<Candidate> Candidates(const std::string& stem) {
  std::vector<Candidate> candidates{
      {absl::StrCat(stem, ".safetensors"), {absl::StrCat(stem, ".safetensors.index.json")}}};
  for (const absl::string_view variant : {"fp16", "bf16"}) {
    candidates.push_back({absl::StrCat(stem, ".", variant, ".safetensors"),
                          {absl::StrCat(stem, ".safetensors.index.", variant, ".json"),
                           absl::StrCat(stem, ".safetensors.", variant, ".index.json")}});
  }
  return candidates;
}

// Every tensor in the shard that the index names, and nowhere else.
absl::Status CheckShards(const std::map<std::string, std::string>& weight_map,
                         const std::vector<SafetensorsFile>& files) {
  size_t found = 0;
  for (const SafetensorsFile& file : files) {
    for (const std::string& tensor : file.names()) {
      const auto listed = weight_map.find(tensor);
      if (listed == weight_map.end() || listed->second != fs::path(file.path()).filename()) {
        return absl::InvalidArgumentError(
            absl::StrCat(file.path(), ": tensor ", tensor, " is ",
                         listed == weight_map.end() ? "not in the index"
                                                    : "in " + listed->second + " by the index"));
      }
      ++found;
    }
  }
  if (found == weight_map.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the index names ", weight_map.size(), " tensors, its shards have ", found));
}

absl::StatusOr<std::vector<SafetensorsFile>> OpenShards(const fs::path& index) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(index.string(), kMaxIndexBytes));
  absl::StatusOr<std::map<std::string, std::string>> weight_map = ParseWeightMap(text);
  absl::Status status = weight_map.status();
  std::vector<SafetensorsFile> files;
  if (status.ok()) {
    std::set<std::string> names;
    for (const auto& [tensor, file] : *weight_map) names.insert(file);
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(SafetensorsFile file,
                       SafetensorsFile::Open((index.parent_path() / name).string()));
      files.push_back(std::move(file));
    }
    status = CheckShards(*weight_map, files);
  }
  if (status.ok()) return files;
  return absl::Status(status.code(), absl::StrCat(index.string(), ": ", status.message()));
}

}  // namespace

absl::StatusOr<ComponentWeights> OpenWeights(const std::string& model_folder,
                                             const std::string& component,
                                             const std::string& stem) {
  const fs::path folder = fs::path(model_folder) / component;
  ComponentWeights weights{.folder = component, .files = {}};
  for (const auto& [single, indexes] : Candidates(stem)) {
    if (IsListed(folder / single)) {
      ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open((folder / single).string()));
      weights.files.push_back(std::move(file));
      return weights;
    }
    for (const std::string& index : indexes) {
      if (!IsListed(folder / index)) continue;
      ASSIGN_OR_RETURN(weights.files, OpenShards(folder / index));
      return weights;
    }
  }
  const std::string wanted = (folder / (stem + ".safetensors")).string();
  if (!HasPickle(folder)) return absl::NotFoundError(absl::StrCat(wanted, ": no such file"));
  return absl::FailedPreconditionError(absl::StrCat(
      wanted,
      ": no such file, only pickled weights, which this program never unpickles; convert "
      "them once: ",
      ConvertCommand(model_folder)));
}

absl::StatusOr<std::map<std::string, std::string>> ParseWeightMap(absl::string_view text) {
  ConfigReader in(text);
  ConfigReader weight_map = in.Object("weight_map");
  std::map<std::string, std::string> files;
  for (const std::string& tensor : weight_map.keys()) {
    const std::string file = weight_map.String(tensor, "");
    if (file.find('/') != std::string::npos || !absl::EndsWith(file, ".safetensors")) {
      weight_map.Fail(absl::StrCat(tensor, ": \"", file,
                                   "\" is not the name of a safetensors file in this folder"));
    }
    files[tensor] = file;
  }
  in.Merge(weight_map);
  if (!in.status().ok()) return in.status();
  return files;
}

std::string ConvertCommand(const std::string& checkpoint) {
  std::error_code error;
  std::string name = LastName(checkpoint);
  if (!fs::is_directory(checkpoint, error)) name = fs::path(name).stem().string();
  // In a Hugging Face cache, the folder is a commit.
  const absl::StatusOr<std::optional<HubSnapshot>> snapshot = IdentifySnapshot(checkpoint);
  if (snapshot.ok() && *snapshot) name = fs::path((*snapshot)->reference.repository).filename();
  return absl::StrCat("python3 tools/convert_checkpoint.py ", checkpoint, " ", name,
                      "-safetensors");
}

absl::StatusOr<TensorView> ComponentWeights::Find(absl::string_view name) const {
  for (const SafetensorsFile& file : files) {
    absl::StatusOr<TensorView> view = file.Find(name);
    if (view.ok()) return view;
  }
  return absl::NotFoundError(absl::StrCat(folder, ": no tensor ", name));
}

std::string ComponentWeights::FileOf(absl::string_view name) const {
  for (const SafetensorsFile& file : files) {
    if (file.Find(name).ok()) return fs::path(file.path()).filename().string();
  }
  return "";
}

std::vector<std::string> ComponentWeights::names() const {
  std::vector<std::string> names;
  for (const SafetensorsFile& file : files) {
    for (std::string& name : file.names()) names.push_back(std::move(name));
  }
  return names;
}

void ComponentWeights::Release(const TensorView& view) { SafetensorsFile::Release(view); }

}  // namespace image_variations
