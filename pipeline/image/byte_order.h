// Big-endian numbers in byte strings: JPEG, PNG and EXIF all use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

// The unsigned number in bytes[at, at + count), which the caller has checked to exist; count <= 4.
inline uint32_t ReadBigEndian(absl::string_view bytes, size_t at, size_t count) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(at, count)) {
    value = value << 8 | static_cast<uint8_t>(byte);
  }
  return value;
}

inline void AppendBigEndian(std::string& bytes, uint32_t value, size_t count) {
  for (size_t shift = 8 * count; shift > 0; shift -= 8) {
    bytes.push_back(static_cast<char>(value >> (shift - 8) & 0xFF));
  }
}

}  // namespace image_variations
