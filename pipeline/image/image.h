// The value that travels through the pipeline on both ends.
#pragma once

#include <cstdint>
#include <vector>

namespace image_variations {

// An upright picture in 8-bit sRGB: row-major, interleaved R, G, B; rgb.size() == 3 * width *
// height.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;

  bool operator==(const Image&) const = default;
};

}  // namespace image_variations
