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

// Of `count` destination pixels from `begin` on, where `in` pixels become `out`.
std::vector<Taps> ComputeTaps(int in, int out, int begin, int count) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  std::vector<Taps> taps(static_cast<size_t>(count));
  for (int x = begin; x < begin + count; ++x) {
    const double center = (x + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(in, static_cast<int>(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int i = first; i < last; ++i) {
      weights.push_back(Bicubic((i - center + 0.5) * (1.0 / filter_scale)));
      sum += weights.back();
    }
    Taps& tap = taps[static_cast<size_t>(x - begin)];
    tap.first = first;
    for (const double weight : weights) tap.weights.push_back(ToFixedPoint(weight / sum));
  }
  return taps;
}

// A pixel as it is, as Pillow leaves out the pass of a side that keeps its length.
std::vector<Taps> CopyTaps(int begin, int count) {
  std::vector<Taps> taps;
  for (int x = begin; x < begin + count; ++x) taps.push_back({x, {1 << kPrecisionBits}});
  return taps;
}

std::vector<Taps> TapsOf(int in, int out, int begin, int count) {
  return in == out ? CopyTaps(begin, count) : ComputeTaps(in, out, begin, count);
}

// Weighs values `stride` bytes apart.
uint8_t Weigh(const uint8_t* values, size_t stride, const std::vector<int>& weights) {
  int sum = 1 << (kPrecisionBits - 1);
  for (size_t i = 0; i < weights.size(); ++i) sum += values[i * stride] * weights[i];
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

struct Span {
  int first = 0;
  int last = 0;  // behind it
};

// The source pixels that these need.
Span SpanOf(const std::vector<Taps>& taps) {
  return {taps.front().first, taps.back().first + static_cast<int>(taps.back().weights.size())};
}

// Of some rows. `left`: the column of the taps' picture with which `image` begins.
Image ResizeWidth(const Image& image, const std::vector<Taps>& taps, Span rows, int left) {
  Image result{static_cast<int>(taps.size()), rows.last - rows.first, {}};
  result.rgb.reserve(3 * taps.size() * static_cast<size_t>(result.height));
  for (int y = rows.first; y < rows.last; ++y) {
    const uint8_t* row = &image.rgb[RgbBytes(y, image.width)];
    for (const Taps& tap : taps) {
      const uint8_t* pixel = row + 3 * (tap.first - left);
      for (int c = 0; c < 3; ++c) result.rgb.push_back(Weigh(pixel + c, 3, tap.weights));
    }
  }
  return result;
}

// Of some columns. `top`: the row of the taps' picture with which `image` begins.
Image ResizeHeight(const Image& image, const std::vector<Taps>& taps, Span columns, int top) {
  const size_t row_bytes = 3 * static_cast<size_t>(image.width);
  Image result{columns.last - columns.first, static_cast<int>(taps.size()), {}};
  result.rgb.reserve(3 * taps.size() * static_cast<size_t>(result.width));
  for (const Taps& tap : taps) {
    const uint8_t* row = &image.rgb[row_bytes * static_cast<size_t>(tap.first - top)];
    for (int i = 3 * columns.first; i < 3 * columns.last; ++i) {
      result.rgb.push_back(Weigh(row + i, row_bytes, tap.weights));
    }
  }
  return result;
}

// Pillow's order since its version 13, which made tall pictures faster and moved their last bits.
bool IsHeightFirst(const Image& image, int width, int height) {
  return height < image.height && image.height - height > 2 * (image.width - width);
}

}  // namespace

Image PilResize(const Image& image, int width, int height, const PixelWindow& window) {
  const std::vector<Taps> columns = TapsOf(image.width, width, window.left, window.width);
  const std::vector<Taps> rows = TapsOf(image.height, height, window.top, window.height);
  if (IsHeightFirst(image, width, height)) {
    const Image flat = ResizeHeight(image, rows, SpanOf(columns), 0);
    return ResizeWidth(flat, columns, {0, flat.height}, SpanOf(columns).first);
  }
  const Image narrow = ResizeWidth(image, columns, SpanOf(rows), 0);
  return ResizeHeight(narrow, rows, {0, narrow.width}, SpanOf(rows).first);
}

}  // namespace image_variations
