#include "pipeline/model/latent_preview.h"

#include <algorithm>
#include <cstdint>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/adaptive_avg_pool2d.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/linalg_lstsq.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/upsample_bilinear2d.h"
#include "pipeline/model/device.h"

namespace image_variations {
namespace {

// A sixteenth of the work of a picture of 512 pixels; at that size the fit is as good.
constexpr int64_t kSide = 16;
// Latents of pictures are mostly smooth, with mean 0 and deviation 1 by the VAE's scaling factor:
// noise of these sides, made larger.
constexpr int64_t kSmoothness[] = {2, 4, 8, 16};

// (pixels, values) of a batch of one picture.
at::Tensor AsRows(const at::Tensor& picture) {
  return ToHost(picture).squeeze(0).flatten(1).t().to(at::kDouble);
}

uint8_t ToByte(float value) { return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f) + 0.5f); }

}  // namespace

LatentPreview LatentPreview::Fit(const VaeDecoder& vae, int64_t channels, at::Device device) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  std::vector<at::Tensor> latents, colours;
  for (const int64_t side : kSmoothness) {
    const at::Tensor noise = at::randn({1, channels, side, side}, generator, at::kFloat);
    const at::Tensor drawn = at::upsample_bilinear2d(noise, {kSide, kSide}, false);
    const at::Tensor pixels = vae.Forward(ToDevice(drawn, device)).to(at::kFloat).clamp(-1, 1);
    latents.push_back(AsRows(drawn));
    colours.push_back(AsRows(at::adaptive_avg_pool2d(pixels, {kSide, kSide})));
  }
  const at::Tensor x = at::cat(latents);
  const at::Tensor with_constant = at::cat({x, at::ones({x.size(0), 1}, x.options())}, 1);
  at::Tensor map = std::get<0>(at::linalg_lstsq(with_constant, at::cat(colours))) * 127.5;
  map.select(0, channels).add_(127.5);
  map = map.to(at::kFloat).contiguous();
  const float* first = map.const_data_ptr<float>();
  return LatentPreview(std::vector<float>(first, first + map.numel()));
}

// A loop of its own over both: for so few numbers each tensor operation would cost more than all of
// it. On the CPU nothing is copied.
Image LatentPreview::Draw(const at::Tensor& a, double a_weight, const at::Tensor& b,
                          double b_weight) const {
  const at::Tensor a_there = ToHost(a.to(at::kDouble)).contiguous();
  const at::Tensor b_there = ToHost(b.to(at::kDouble)).contiguous();
  const auto channels = static_cast<size_t>(a_there.size(1));
  const auto pixels = static_cast<size_t>(a_there.size(2) * a_there.size(3));
  const double* from_a = a_there.const_data_ptr<double>();
  const double* from_b = b_there.const_data_ptr<double>();
  const float* constant = &map_[3 * channels];
  Image image{static_cast<int>(a_there.size(3)), static_cast<int>(a_there.size(2)), {}};
  image.rgb.resize(3 * pixels);
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    float red = constant[0], green = constant[1], blue = constant[2];
    for (size_t channel = 0; channel < channels; ++channel) {
      const size_t at = channel * pixels + pixel;
      const auto latent = static_cast<float>(a_weight * from_a[at] + b_weight * from_b[at]);
      red += map_[3 * channel] * latent;
      green += map_[3 * channel + 1] * latent;
      blue += map_[3 * channel + 2] * latent;
    }
    uint8_t* to = &image.rgb[3 * pixel];
    to[0] = ToByte(red);
    to[1] = ToByte(green);
    to[2] = ToByte(blue);
  }
  return image;
}

}  // namespace image_variations
