// The layers that the networks share. Members are named as in diffusers' checkpoints. On the CPU
// pictures are dense in channels-last order, so that their tokens are a view.
#pragma once

#include <optional>

#include "ATen/core/Tensor.h"
#include "pipeline/model/packed_weights.h"
#include "pipeline/model/row_invariance.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

struct Linear {
  at::Tensor weight;  // (out, in), packed
  at::Tensor bias;    // undefined: none
  RowInvariance* rows = nullptr;

  static Linear Load(const WeightScope&, int64_t in, int64_t out, bool has_bias = true);
  at::Tensor Forward(const at::Tensor& x) const;  // (rows, tokens, in)
  at::Tensor ForwardGelu(const at::Tensor& x) const;
  at::Tensor ForwardAdd(const at::Tensor& x, const at::Tensor& addend) const;
  at::Tensor ForwardMultiply(const at::Tensor& x, const at::Tensor& factor) const;

 private:
  at::Tensor Run(const at::Tensor& x, PostOp, const at::Tensor& operand) const;
};

struct Conv2d {
  at::Tensor weight;  // (out, in, kernel, kernel), packed
  at::Tensor bias;    // undefined: none
  int64_t stride = 1;
  int64_t padding = 0;
  RowInvariance* rows = nullptr;

  // Padded by half the kernel. `side`: of the pictures that it is for; others run too, slower.
  static Conv2d Load(const WeightScope&, int64_t in, int64_t out, int64_t kernel, int64_t side,
                     int64_t stride = 1);
  at::Tensor Forward(const at::Tensor& x) const;  // (rows, in, h, w)
  at::Tensor ForwardAdd(const at::Tensor& x, const at::Tensor& addend) const;

 private:
  at::Tensor Run(const at::Tensor& x, PostOp, const at::Tensor& operand) const;
};

struct GroupNorm {
  at::Tensor weight, bias;
  int64_t groups = 32;
  double eps = 1e-5;
  RowInvariance* rows = nullptr;

  static GroupNorm Load(const WeightScope&, int64_t channels, int64_t groups, double eps);
  at::Tensor Forward(const at::Tensor& x) const;
  at::Tensor ForwardSilu(const at::Tensor& x) const;
  at::Tensor ForwardSiluOver(const at::Tensor& x) const;  // on the CPU x is overwritten
  // Of x + channel_bias, (rows, channels), where that is defined.
  at::Tensor ForwardSilu(const at::Tensor& x, const at::Tensor& channel_bias) const;
  // Of the channels of `x` and then those of `skip`, together.
  at::Tensor ForwardSiluOfBoth(const at::Tensor& x, const at::Tensor& skip) const;

 private:
  at::Tensor Run(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& channel_bias,
                 bool silu, bool in_place = false) const;
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
  Linear to_qkv;  // the rows of to_q, to_k and to_v, one after the other
  Linear to_out;
  int64_t heads = 1;

  // Where each projection is in the checkpoint.
  struct Scopes {
    WeightScope to_q, to_k, to_v, to_out;
  };
  static SelfAttention Load(const Scopes&, int64_t width, int64_t heads, bool qkv_has_bias);
  // x and residual: (rows, tokens, width); returns their sum after attention.
  at::Tensor ForwardAdd(const at::Tensor& x, const at::Tensor& residual) const;
};

// ResnetBlock2D: with a time embedding in the UNet, without in the VAE.
struct ResnetBlock {
  GroupNorm norm1;
  Conv2d conv1;
  GroupNorm norm2;
  Conv2d conv2;
  std::optional<Linear> conv_shortcut = {};  // where the channels change
  std::optional<Linear> skip_shortcut = {};  // its columns for the skip connection

  // `skip`: of the `in` channels, how many come from a skip connection.
  static ResnetBlock Load(const WeightScope&, int64_t in, int64_t out, int64_t groups, double eps,
                          int64_t side, int64_t skip = 0);
  // `skip`: the channels after those of x, in the UNet's way up. `time_bias`: (rows, out), added
  // after conv1; undefined in the VAE.
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& skip = {},
                     const at::Tensor& time_bias = {}) const;
  // The same; overwrites x where the channels change, and lets it go: less memory at a time.
  at::Tensor ForwardOver(at::Tensor x) const;

 private:
  at::Tensor Chain(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& time_bias) const;
};

// (rows, channels, h, w) to (rows, h * w, channels), and back to the height and width of `like`.
at::Tensor ToTokens(const at::Tensor& x);
at::Tensor FromTokens(const at::Tensor& tokens, const at::Tensor& like);
// The layout that the other layers work on.
at::Tensor ToChannelsLast(const at::Tensor& x);

}  // namespace image_variations
