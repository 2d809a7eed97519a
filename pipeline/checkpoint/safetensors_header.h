// The JSON header of a safetensors file, read and checked without looking at the data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

enum class TensorType { kFloat32, kFloat16, kBfloat16, kInt64 };

int64_t BytesPerElement(TensorType);

// Where a tensor lies; offsets are relative to the end of the header.
struct SafetensorsEntry {
  std::string name;
  TensorType type = TensorType::kFloat32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The entries, sorted by where they lie. INVALID_ARGUMENT, by tensor where there is one: everything
// that the specification of the format forbids (malformed JSON, a key twice, offsets that do not
// fit the shape, or do not cover `data_bytes` exactly once), and what is beyond this program: other
// element types, more than 8 dimensions, keys of more than 1000 bytes. Works in one pass; its
// memory is a small multiple of the header's size at most.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::string_view header,
                                                                     uint64_t data_bytes);

}  // namespace image_variations
