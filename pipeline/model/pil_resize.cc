#include "pipeline/model/pil_resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace image_variations {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;

// The source pixels of one destination pixel, and their weights in fixed point.
struct Taps {
  int first = 0;
  std::vector<int> weights;
};

double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

int ToFixedPoint(double weight) {
  return static_cast<int>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kPrecisionBits));
}

std::vector<Taps> ComputeTaps(int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  std::vector<Taps> taps(static_cast<size_t>(out));
  for (int x = 0; x < out; ++x) {
    const double center = (x + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(in, static_cast<int>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int i = first; i < last; ++i) {
      weights.push_back(Bicubic((i - center + 0.5) * (1.0 / filter_scale)));
      sum += weights.back();
    }
    Taps& tap = taps[static_cast<size_t>(x)];
    tap.first = first;
    for (const double weight : weights) tap.weights.push_back(ToFixedPoint(weight / sum));
  }
  return taps;
}

uint8_t Round(int fixed_point) {
  return static_cast<uint8_t>(std::clamp(fixed_point >> kPrecisionBits, 0, 255));
}

// Weighs values `stride` bytes apart.
uint8_t Weigh(const uint8_t* values, size_t stride, const std::vector<int>& weights) {
  int sum = 1 << (kPrecisionBits - 1);
  for (size_t i = 0; i < weights.size(); ++i) sum += values[i * stride] * weights[i];
  return Round(sum);
}

Image ResizeWidth(const Image& image, int width) {
  const std::vector<Taps> taps = ComputeTaps(image.width, width);
  Image result{width, image.height, {}};
  result.rgb.reserve(3 * static_cast<size_t>(width) * static_cast<size_t>(image.height));
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = &image.rgb[3 * static_cast<size_t>(y) * static_cast<size_t>(image.width)];
    for (const Taps& tap : taps) {
      const uint8_t* pixel = row + 3 * tap.first;
      for (int c = 0; c < 3; ++c) result.rgb.push_back(Weigh(pixel + c, 3, tap.weights));
    }
  }
  return result;
}

Image ResizeHeight(const Image& image, int height) {
  const size_t row_bytes = 3 * static_cast<size_t>(image.width);
  Image result{image.width, height, {}};
  result.rgb.reserve(row_bytes * static_cast<size_t>(height));
  for (const Taps& tap : ComputeTaps(image.height, height)) {
    const uint8_t* column = &image.rgb[row_bytes * static_cast<size_t>(tap.first)];
    for (size_t i = 0; i < row_bytes; ++i) {
      result.rgb.push_back(Weigh(column + i, row_bytes, tap.weights));
    }
  }
  return result;
}

}  // namespace

Image PilResize(const Image& image, int width, int height) {
  Image result = image.width == width ? image : ResizeWidth(image, width);
  return result.height == height ? result : ResizeHeight(result, height);
}

}  // namespace image_variations
