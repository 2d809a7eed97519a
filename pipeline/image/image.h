// The value that travels through the pipeline on both ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace image_variations {

// How many bytes the pixels of a picture take.
constexpr size_t RgbBytes(int width, int height) {
  return size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height);
}

// An upright picture in 8-bit sRGB: row-major, interleaved R, G, B; rgb.size() == RgbBytes(width,
// height).
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;

  bool operator==(const Image&) const = default;
};

}  // namespace image_variations
