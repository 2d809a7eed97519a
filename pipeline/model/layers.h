// The layers that the networks share. Members are named as in diffusers' checkpoints.
#pragma once

#include <optional>

#include "ATen/core/Tensor.h"
#include "pipeline/model/row_invariance.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

struct Linear {
  at::Tensor weight;  // (out, in)
  at::Tensor bias;    // undefined: none
  RowInvariance* rows = nullptr;

  static Linear Load(const WeightScope&, int64_t in, int64_t out, bool has_bias = true);
  at::Tensor Forward(const at::Tensor& x) const;  // (rows, tokens, in)
};

struct Conv2d {
  at::Tensor weight;  // (out, in, kernel, kernel)
  at::Tensor bias;
  int64_t stride = 1;
  int64_t padding = 0;
  RowInvariance* rows = nullptr;

  // Padded by half the kernel.
  static Conv2d Load(const WeightScope&, int64_t in, int64_t out, int64_t kernel,
                     int64_t stride = 1);
  at::Tensor Forward(const at::Tensor& x) const;  // (rows, in, h, w)
};

struct GroupNorm {
  at::Tensor weight, bias;
  int64_t groups = 32;
  double eps = 1e-5;
  RowInvariance* rows = nullptr;

  static GroupNorm Load(const WeightScope&, int64_t channels, int64_t groups, double eps);
  at::Tensor Forward(const at::Tensor& x) const;
  at::Tensor ForwardSilu(const at::Tensor& x) const;
};

struct LayerNorm {
  at::Tensor weight, bias;
  double eps = 1e-5;
  RowInvariance* rows = nullptr;

  static LayerNorm Load(const WeightScope&, int64_t width, double eps = 1e-5);
  at::Tensor Forward(const at::Tensor& x) const;
};

// Softmax attention of tokens to each other, between its projections.
struct SelfAttention {
  Linear to_q, to_k, to_v, to_out;
  int64_t heads = 1;

  at::Tensor Forward(const at::Tensor& x) const;  // (rows, tokens, width)
};

// ResnetBlock2D: with a time embedding in the UNet, without in the VAE.
struct ResnetBlock {
  GroupNorm norm1;
  Conv2d conv1;
  GroupNorm norm2;
  Conv2d conv2;
  std::optional<Conv2d> conv_shortcut = {};  // where the channels change

  static ResnetBlock Load(const WeightScope&, int64_t in, int64_t out, int64_t groups, double eps);
  // `time_bias`: (rows, out), added after conv1; undefined in the VAE.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& time_bias = {}) const;
};

// Nearest neighbour to `height` x `width`, then a convolution.
struct Upsampler {
  Conv2d conv;

  at::Tensor Forward(const at::Tensor& x, int64_t height, int64_t width) const;
};

// (rows, channels, h, w) to (rows, h * w, channels), and back to the sizes of `like`.
at::Tensor ToTokens(const at::Tensor& x);
at::Tensor FromTokens(const at::Tensor& tokens, const at::Tensor& like);

}  // namespace image_variations
