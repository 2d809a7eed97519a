#include "pipeline/model/layers.h"

#include "ATen/ops/conv2d.h"
#include "ATen/ops/group_norm.h"
#include "ATen/ops/layer_norm.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/mkldnn_convolution.h"
#include "ATen/ops/scaled_dot_product_attention.h"
#include "ATen/ops/silu.h"
#include "ATen/ops/upsample_nearest2d.h"

namespace image_variations {

Linear Linear::Load(const WeightScope& scope, int64_t in, int64_t out, bool has_bias) {
  return {.weight = scope.Take("weight", {out, in}),
          .bias = has_bias ? scope.Take("bias", {out}) : at::Tensor(),
          .rows = scope.placement().rows};
}

at::Tensor Linear::Forward(const at::Tensor& x) const {
  const RowInvariance::Operation operation = {
      .kind = "linear",
      .constants = {weight.size(0), bias.defined()},
      .multiplications_per_row = x.size(1) * weight.numel()};
  return rows->Run(operation, x,
                   [&](at::TensorList inputs) { return at::linear(inputs[0], weight, bias); });
}

Conv2d Conv2d::Load(const WeightScope& scope, int64_t in, int64_t out, int64_t kernel,
                    int64_t stride) {
  return {.weight = scope.Take("weight", {out, in, kernel, kernel}),
          .bias = scope.Take("bias", {out}),
          .stride = stride,
          .padding = kernel / 2,
          .rows = scope.placement().rows};
}

at::Tensor Conv2d::Forward(const at::Tensor& x) const {
  const int64_t positions = x.size(2) * x.size(3) / (stride * stride);
  const RowInvariance::Operation operation = {
      .kind = "conv2d",
      .constants = {weight.size(0), weight.size(2), stride},
      .multiplications_per_row = positions * weight.numel()};
  return rows->Run(operation, x, [&](at::TensorList inputs) {
    // at::conv2d leaves oneDNN for im2col when a batch of one is small, so a row alone would get
    // other bits, and a slower kernel.
    if (inputs[0].is_cpu() && weight.scalar_type() == at::kFloat) {
      return at::mkldnn_convolution(inputs[0], weight, bias, {padding, padding}, {stride, stride},
                                    /*dilation=*/{1, 1}, /*groups=*/1);
    }
    return at::conv2d(inputs[0], weight, bias, stride, padding);
  });
}

GroupNorm GroupNorm::Load(const WeightScope& scope, int64_t channels, int64_t groups, double eps) {
  return {.weight = scope.Take("weight", {channels}),
          .bias = scope.Take("bias", {channels}),
          .groups = groups,
          .eps = eps,
          .rows = scope.placement().rows};
}

at::Tensor GroupNorm::Forward(const at::Tensor& x) const {
  const RowInvariance::Operation operation = {.kind = "group_norm", .constants = {groups}};
  return rows->Run(operation, x, [&](at::TensorList inputs) {
    return at::group_norm(inputs[0], groups, weight, bias, eps);
  });
}

at::Tensor GroupNorm::ForwardSilu(const at::Tensor& x) const {
  return rows->RunAlone(x, [&](at::TensorList inputs) {
    at::Tensor normed = at::group_norm(inputs[0], groups, weight, bias, eps);
    return at::silu_(normed);  // in place: the VAE's largest activation has 268 MB at 512x512
  });
}

LayerNorm LayerNorm::Load(const WeightScope& scope, int64_t width, double eps) {
  return {.weight = scope.Take("weight", {width}),
          .bias = scope.Take("bias", {width}),
          .eps = eps,
          .rows = scope.placement().rows};
}

at::Tensor LayerNorm::Forward(const at::Tensor& x) const {
  return rows->Run({.kind = "layer_norm"}, x, [&](at::TensorList inputs) {
    return at::layer_norm(inputs[0], weight.sizes(), weight, bias, eps);
  });
}

at::Tensor SelfAttention::Forward(const at::Tensor& x) const {
  const int64_t tokens = x.size(1);
  const int64_t width = x.size(2);
  const RowInvariance::Operation operation = {
      .kind = "attention",
      .constants = {heads},
      .multiplications_per_row = 2 * tokens * tokens * width};
  const auto split = [&](const at::Tensor& projected) {
    return projected.view({-1, tokens, heads, width / heads}).transpose(1, 2);
  };
  const at::Tensor attended = to_q.rows->Run(
      operation, {to_q.Forward(x), to_k.Forward(x), to_v.Forward(x)}, [&](at::TensorList inputs) {
        return at::scaled_dot_product_attention(split(inputs[0]), split(inputs[1]),
                                                split(inputs[2]))
            .transpose(1, 2)
            .reshape({-1, tokens, width});
      });
  return to_out.Forward(attended);
}

ResnetBlock ResnetBlock::Load(const WeightScope& scope, int64_t in, int64_t out, int64_t groups,
                              double eps) {
  ResnetBlock block = {.norm1 = GroupNorm::Load(scope["norm1"], in, groups, eps),
                       .conv1 = Conv2d::Load(scope["conv1"], in, out, 3),
                       .norm2 = GroupNorm::Load(scope["norm2"], out, groups, eps),
                       .conv2 = Conv2d::Load(scope["conv2"], out, out, 3)};
  if (in != out) block.conv_shortcut = Conv2d::Load(scope["conv_shortcut"], in, out, 1);
  return block;
}

at::Tensor ResnetBlock::Forward(const at::Tensor& x, const at::Tensor& time_bias) const {
  at::Tensor h = conv1.Forward(norm1.ForwardSilu(x));
  if (time_bias.defined()) h.add_(time_bias.unsqueeze(-1).unsqueeze(-1));
  h = conv2.Forward(norm2.ForwardSilu(h));
  return h.add_(conv_shortcut ? conv_shortcut->Forward(x) : x);
}

at::Tensor Upsampler::Forward(const at::Tensor& x, int64_t height, int64_t width) const {
  // One pixel is laid out channels-last as well, and its enlargement then only so.
  return conv.Forward(at::upsample_nearest2d(x, {height, width}).contiguous());
}

at::Tensor ToTokens(const at::Tensor& x) { return x.flatten(2).transpose(1, 2).contiguous(); }

at::Tensor FromTokens(const at::Tensor& tokens, const at::Tensor& like) {
  return tokens.transpose(1, 2).contiguous().view(like.sizes());
}

}  // namespace image_variations
