#include "tests/support/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

// IEEE half precision, finite values.
float HalfToFloat(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

template <typename Stored, typename Convert>
std::vector<float> ConvertAll(absl::Span<const char> bytes, Convert convert) {
  std::vector<float> values;
  for (size_t at = 0; at < bytes.size(); at += sizeof(Stored)) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + at, sizeof(Stored));
    values.push_back(convert(stored));
  }
  return values;
}

}  // namespace

absl::StatusOr<std::vector<float>> GoldenValues(const SafetensorsFile& file,
                                                const std::string& tensor) {
  ASSIGN_OR_RETURN(const TensorView view, file.Find(tensor));
  switch (view.type) {
    case TensorType::kFloat32:
      return ConvertAll<float>(view.bytes, [](float value) { return value; });
    case TensorType::kFloat16:
      return ConvertAll<uint16_t>(view.bytes, HalfToFloat);
    case TensorType::kInt64:
      return ConvertAll<int64_t>(view.bytes,
                                 [](int64_t value) { return static_cast<float>(value); });
    case TensorType::kBfloat16:
      break;
  }
  return absl::UnimplementedError(tensor + ": goldens are not in bfloat16");
}

absl::StatusOr<GoldenCase> ReadGoldenCase(const std::string& folder) {
  ASSIGN_OR_RETURN(SafetensorsFile tensors, SafetensorsFile::Open(folder + "/tensors.safetensors"));
  std::ifstream file(folder + "/case.json");
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(folder + "/case.json is not JSON");
  const auto& parameters = json["parameters"];
  GoldenCase golden = {.name = std::filesystem::path(folder).filename(),
                       .model = json["model"],
                       .source = json["source"],
                       .sample_count = parameters["sample_count"],
                       .seed = parameters["seed"],
                       .guidance_scale = parameters["guidance_scale"],
                       .step_count = parameters["step_count"],
                       .sampler = parameters["sampler"],
                       .eta = parameters["eta"],
                       .width = parameters["width"],
                       .height = parameters["height"],
                       .preprocessing = parameters["preprocessing"],
                       .stages = {},
                       .tensors = std::move(tensors)};
  for (const auto& stage : json["stages"]) {
    golden.stages.push_back({stage["tensor"], stage["max_abs_difference"], stage["reason"]});
  }
  return golden;
}

std::vector<std::string> ListGoldenCases(const std::string& root) {
  std::vector<std::string> folders;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(root, ignored)) {
    if (std::filesystem::exists(entry.path() / "case.json")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

Difference Compare(absl::Span<const float> golden, absl::Span<const float> actual) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (golden.size() != actual.size() || golden.empty()) return {kInfinity, kInfinity};
  Difference difference;
  double sum = 0;
  for (size_t i = 0; i < golden.size(); ++i) {
    const double apart = std::abs(double{golden[i]} - double{actual[i]});
    if (!std::isfinite(apart)) return {kInfinity, kInfinity};
    difference.max = std::max(difference.max, apart);
    sum += apart;
  }
  difference.mean = sum / static_cast<double>(golden.size());
  return difference;
}

}  // namespace image_variations
