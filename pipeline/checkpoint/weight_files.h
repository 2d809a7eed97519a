// Which safetensors files hold a component's weights.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/checkpoint/model_dir.h"

namespace image_variations {

// Opens the weights in <model_folder>/<component>: <stem>.safetensors; else the shards named by
// <stem>.safetensors.index.json; else the same of the variants fp16 and bf16. FAILED_PRECONDITION
// with the converter's command when there are only pickles: this program never reads one, since
// reading a pickle runs the code in it.
absl::StatusOr<ComponentWeights> OpenWeights(const std::string& model_folder,
                                             const std::string& component, const std::string& stem);

// File by tensor name, of an index of shards.
absl::StatusOr<std::map<std::string, std::string>> ParseWeightMap(absl::string_view index_json);

// The command that makes a folder this program reads out of a pickled checkpoint, folder or file.
std::string ConvertCommand(const std::string& checkpoint);

}  // namespace image_variations
