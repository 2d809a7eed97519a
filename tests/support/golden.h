// Golden cases: what the reference implementation does, stage by stage (tests/golden/README.md).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "pipeline/checkpoint/safetensors.h"

namespace image_variations {

// One tensor of a golden file, whatever its type.
absl::StatusOr<std::vector<float>> GoldenValues(const SafetensorsFile&, const std::string& tensor);

struct GoldenStage {
  std::string tensor;
  double max_abs_difference = 0;
  std::string reason;
};

// case.json; paths are from the root of the repository.
struct GoldenCase {
  std::string name;
  std::string model;
  std::string source;
  int sample_count = 1;
  uint64_t seed = 0;
  float guidance_scale = 1;
  int step_count = 1;
  std::string sampler;
  double eta = 0;
  int width = 0;
  int height = 0;
  std::string preprocessing;
  std::vector<GoldenStage> stages;  // in the order of the pipeline
  SafetensorsFile tensors;

  absl::StatusOr<std::vector<float>> Values(const std::string& tensor) const {
    return GoldenValues(tensors, tensor);
  }
};

absl::StatusOr<GoldenCase> ReadGoldenCase(const std::string& folder);

// The folders with a case.json under `root`, sorted.
std::vector<std::string> ListGoldenCases(const std::string& root);

// How far `actual` lies from the golden values.
struct Difference {
  double max = 0;  // infinite: another number of values, or one that is not finite
  double mean = 0;
};
Difference Compare(absl::Span<const float> golden, absl::Span<const float> actual);

}  // namespace image_variations
