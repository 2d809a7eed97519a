// A model folder in diffusers' layout: which files belong to which component, their configs and
// digests.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/checkpoint/manifest.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

// The tensors of one component, from one file or several shards. Immutable; thread-safe.
struct ComponentWeights {
  std::string folder;  // "unet": for messages
  std::vector<SafetensorsFile> files;

  absl::StatusOr<TensorView> Find(
      absl::string_view name) const;  // NOT_FOUND names tensor and folder
  // Name of the file that has a tensor; "" when none does.
  std::string FileOf(absl::string_view name) const;
  std::vector<std::string> names() const;  // of all files
  static void Release(const TensorView&);  // SafetensorsFile::Release
};

// Everything of a checkpoint that is not a network: read, parsed and checked, weights mapped but
// not yet touched.
struct ModelDir {
  // `model` is a folder with model_index.json, a repository's folder in a Hugging Face cache (its
  // main revision is meant), or `org/repository` or `org/repository@revision` to be looked up in
  // the cache at `hub_cache`; nothing is ever downloaded. The status says which file is missing,
  // broken or not implemented, and what to do: the command that downloads, or FAILED_PRECONDITION
  // with the converter's for what has only pickles.
  static absl::StatusOr<ModelDir> Open(const std::string& model, const std::string& hub_cache = "");

  std::string model_id;  // the folder's name; in a Hugging Face cache, org/repository
  std::string revision;  // the cache's commit; empty for a plain folder
  Manifest manifest;     // its configs are checked, its weights are by ComponentDigests
  SamplerConfig sampler;
  UnetConfig unet;
  VaeConfig vae;
  ClipVisionConfig image_encoder;
  PreprocessorConfig preprocessor;
  std::optional<ClipVisionConfig> safety_checker;  // absent: the index has [null, null]

  ComponentWeights unet_weights;
  ComponentWeights vae_weights;
  ComponentWeights image_encoder_weights;
  ComponentWeights safety_checker_weights;  // no files when safety_checker is absent
};

// sha256, lower-case hex, of each component's weight files (of the list of shard digests when there
// are several), by folder name. INVALID_ARGUMENT names a file that differs from the manifest. Takes
// seconds; the resident set does not grow.
absl::StatusOr<std::map<std::string, std::string>> ComponentDigests(const ModelDir&);

}  // namespace image_variations
