#include "pipeline/model/preprocessing.h"

#include <algorithm>
#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/from_blob.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/upsample_bicubic2d.h"
#include "pipeline/model/pil_resize.h"

namespace image_variations {
namespace {

// One colour, float32 (1, 1, height, width) from 0 to 255.
at::Tensor Channel(const Image& image, int channel) {
  // ATen has no view of constant memory; nothing writes to it.
  auto* bytes = const_cast<uint8_t*>(image.rgb.data());
  return at::from_blob(bytes, {1, image.height, image.width, 3}, at::kByte)
      .narrow(3, channel, 1)
      .permute({0, 3, 1, 2})
      .to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous);
}

at::Tensor PerChannel(const std::array<float, 3>& values) {
  return at::tensor(at::ArrayRef<float>(values)).view({1, 3, 1, 1});
}

at::Tensor Normalize(const at::Tensor& pixels, const PreprocessorConfig& config) {
  return (pixels - PerChannel(config.image_mean)) / PerChannel(config.image_std);
}

// The part of `picture` inside a centred frame: what of it, and where in the frame. Halves round
// down, below zero as well, as in transformers' center_crop.
struct CenteredSpan {
  int from, count, offset;

  CenteredSpan(int picture, int frame) {
    const int begin = (picture - frame) >> 1;
    from = std::max(0, begin);
    count = std::min(picture, begin + frame) - from;
    offset = from - begin;
  }
};

// The middle of the picture at another size; black where the crop is larger.
Image ResizeAndCrop(const Image& image, int width, int height, const PreprocessorConfig& config) {
  const CenteredSpan x(width, config.crop_width);
  const CenteredSpan y(height, config.crop_height);
  const Image middle = PilResize(image, width, height, {x.from, y.from, x.count, y.count});
  if (middle.width == config.crop_width && middle.height == config.crop_height) return middle;

  Image crop{config.crop_width, config.crop_height, {}};
  crop.rgb.resize(RgbBytes(crop.width, crop.height));
  for (int row = 0; row < middle.height; ++row) {
    std::copy_n(middle.rgb.begin() + 3 * int64_t{row} * middle.width, 3 * middle.width,
                crop.rgb.begin() + 3 * (int64_t{y.offset + row} * crop.width + x.offset));
  }
  return crop;
}

}  // namespace

at::Tensor PreprocessAsModelCard(const Image& image, int size, const PreprocessorConfig& config) {
  std::vector<at::Tensor> resized;
  for (int channel = 0; channel < 3; ++channel) {  // by itself: 50 megapixels of floats take 200 MB
    resized.push_back(at::upsample_bicubic2d(Channel(image, channel).div_(255), {size, size},
                                             /*align_corners=*/false));
  }
  return Normalize(at::cat(resized, 1), config);
}

at::Tensor PreprocessAsClip(const Image& image, const PreprocessorConfig& config) {
  const int64_t shortest = std::min(image.width, image.height);
  const auto scaled = [&](int side) {
    return static_cast<int>(config.shortest_edge * int64_t{side} / shortest);
  };
  const Image crop = ResizeAndCrop(image, scaled(image.width), scaled(image.height), config);
  const at::Tensor pixels = at::cat({Channel(crop, 0), Channel(crop, 1), Channel(crop, 2)}, 1);
  return Normalize(pixels * 0.00392156862745098, config);
}

}  // namespace image_variations
