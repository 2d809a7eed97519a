#include "client/cli/thumbnail.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace image_variations::client {
namespace {

struct Share {
  int source = 0;
  float weight = 0;
};

// What each of `target` pixels covers of a row or column of `source` pixels; its weights add up
// to 1.
std::vector<std::vector<Share>> Coverage(int source, int target) {
  std::vector<std::vector<Share>> coverage(static_cast<size_t>(target));
  const double scale = static_cast<double>(source) / target;
  for (int i = 0; i < target; ++i) {
    const double begin = i * scale;
    const double end = begin + scale;
    for (int at = static_cast<int>(begin); at < source && at < end; ++at) {
      const double covered = std::min(end, at + 1.0) - std::max(begin, static_cast<double>(at));
      if (covered <= 0) continue;
      coverage[static_cast<size_t>(i)].push_back({at, static_cast<float>(covered / scale)});
    }
  }
  return coverage;
}

Image Resize(const Image& source, int width, int height) {
  const auto across = Coverage(source.width, width);
  const auto down = Coverage(source.height, height);
  const size_t stride = static_cast<size_t>(width) * 3;
  Image result{.width = width, .height = height, .rgb = std::vector<uint8_t>(stride * down.size())};
  std::vector<float> sums(stride);
  for (size_t y = 0; y < down.size(); ++y) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (const Share& row : down[y]) {
      const uint8_t* pixels = source.rgb.data() + static_cast<size_t>(row.source) *
                                                      static_cast<size_t>(source.width) * 3;
      for (size_t x = 0; x < across.size(); ++x) {
        for (const Share& column : across[x]) {
          for (size_t channel = 0; channel < 3; ++channel) {
            const uint8_t pixel = pixels[static_cast<size_t>(column.source) * 3 + channel];
            sums[x * 3 + channel] += row.weight * column.weight * static_cast<float>(pixel);
          }
        }
      }
    }
    std::transform(sums.begin(), sums.end(),
                   result.rgb.begin() + static_cast<ptrdiff_t>(y * stride),
                   [](float sum) { return static_cast<uint8_t>(std::min(sum + 0.5f, 255.0f)); });
  }
  return result;
}

}  // namespace

Image FitToSquare(const Image& image, int side) {
  const double factor = static_cast<double>(side) / std::max(image.width, image.height);
  const auto scaled = [&](int size) {
    return std::clamp(static_cast<int>(std::lround(size * factor)), 1, side);
  };
  return Resize(image, scaled(image.width), scaled(image.height));
}

}  // namespace image_variations::client
