#include "pipeline/model/latent_preview.h"

#include <algorithm>
#include <cmath>

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

// A loop of its own: for so few numbers each tensor operation would cost more than all of it.
Image LatentPreview::Draw(const at::Tensor& latents) const {
  const at::Tensor on_cpu = ToHost(latents.to(at::kFloat)).contiguous();
  const auto channels = static_cast<size_t>(on_cpu.size(1));
  const auto pixels = static_cast<size_t>(on_cpu.size(2) * on_cpu.size(3));
  const float* values = on_cpu.const_data_ptr<float>();
  Image image{static_cast<int>(on_cpu.size(3)), static_cast<int>(on_cpu.size(2)), {}};
  image.rgb.resize(3 * pixels);
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    for (size_t colour = 0; colour < 3; ++colour) {
      float sum = map_[3 * channels + colour];
      for (size_t channel = 0; channel < channels; ++channel) {
        sum += map_[3 * channel + colour] * values[channel * pixels + pixel];
      }
      image.rgb[3 * pixel + colour] =
          static_cast<uint8_t>(std::lround(std::clamp(sum, 0.0f, 255.0f)));
    }
  }
  return image;
}

}  // namespace image_variations
