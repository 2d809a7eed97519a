#include "pipeline/image/shrink.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace image_variations {
namespace {

int DivideUp(int a, int b) { return (a + b - 1) / b; }

}  // namespace

Image Shrink(const Image& image, int max_side) {
  const int factor = DivideUp(std::max(image.width, image.height), max_side);
  if (factor <= 1) return image;
  Image small{DivideUp(image.width, factor), DivideUp(image.height, factor), {}};
  small.rgb.reserve(RgbBytes(small.width, small.height));
  for (int y = 0; y < image.height; y += factor) {
    for (int x = 0; x < image.width; x += factor) {
      const int bottom = std::min(y + factor, image.height);
      const int right = std::min(x + factor, image.width);
      for (int channel = 0; channel < 3; ++channel) {
        int sum = 0;
        for (int row = y; row < bottom; ++row) {
          for (int column = x; column < right; ++column) {
            const int64_t pixel = int64_t{row} * image.width + column;
            sum += image.rgb[static_cast<size_t>(3 * pixel + channel)];
          }
        }
        const int count = (bottom - y) * (right - x);
        small.rgb.push_back(static_cast<uint8_t>((sum + count / 2) / count));
      }
    }
  }
  return small;
}

}  // namespace image_variations
