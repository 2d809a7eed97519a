// Arithmetic on 8-bit channels that stand for 0 to 1.
#pragma once

#include <cstdint>

namespace image_variations {

// a x b / 255, rounded to nearest (there are no ties: 255 is odd).
inline uint8_t MultiplyChannels(uint8_t a, uint8_t b) {
  const unsigned product = static_cast<unsigned>(a) * b + 128;
  return static_cast<uint8_t>((product + (product >> 8)) >> 8);
}

}  // namespace image_variations
