// Safetensors files made by hand, right and wrong ones.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

// The bytes of a file with this header and data; `header_length` in place of the true one.
inline std::string SafetensorsBytes(absl::string_view header, absl::string_view data,
                                    uint64_t header_length) {
  std::string bytes(reinterpret_cast<const char*>(&header_length), sizeof header_length);
  bytes.append(header.data(), header.size());
  bytes.append(data.data(), data.size());
  return bytes;
}

inline std::string SafetensorsBytes(absl::string_view header, absl::string_view data = "") {
  return SafetensorsBytes(header, data, header.size());
}

}  // namespace image_variations
