// Latents to a small picture by a linear map that is fitted to the VAE: a preview without decoding.
#pragma once

#include <vector>

#include "ATen/core/Tensor.h"
#include "pipeline/image/image.h"
#include "pipeline/model/vae_decoder.h"

namespace image_variations {

// Immutable; thread-safe.
class LatentPreview {
 public:
  // Decodes a few small drawn latents on `device` and fits, by least squares, the mean colour of a
  // latent's pixels to the latent.
  static LatentPreview Fit(const VaeDecoder&, int64_t channels, at::Device device);

  // Latents (1, channels, h, w), of any type on any device: `a` so many times, plus `b` so many
  // times, to w x h pixels.
  Image Draw(const at::Tensor& a, double a_weight, const at::Tensor& b, double b_weight) const;

 private:
  explicit LatentPreview(std::vector<float> map) : map_(std::move(map)) {}

  std::vector<float> map_;  // (channels + 1) rows of R, G, B in 0 to 255; the last is constant
};

}  // namespace image_variations
