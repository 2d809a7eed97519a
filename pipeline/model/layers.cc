#include "pipeline/model/layers.h"

#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/group_norm.h"
#include "ATen/ops/layer_norm.h"
#include "ATen/ops/silu.h"
#include "pipeline/model/attention.h"
#include "pipeline/model/group_norm.h"
#include "pipeline/model/winograd.h"

namespace image_variations {
namespace {

// Convolutions that any company suits read their weights once for all rows. A row with more results
// goes alone, so that what the layers hand on stays in the caches.
constexpr int64_t kMostResultsInCompany = 1 << 19;

PostOp SumOrNone(const at::Tensor& addend) {
  return addend.defined() ? PostOp::kAdd : PostOp::kNone;
}

}  // namespace

Linear Linear::Load(const WeightScope& scope, int64_t in, int64_t out, bool has_bias) {
  return {.weight = PackLinearWeight(scope.Take("weight", {out, in})),
          .bias = has_bias ? scope.Take("bias", {out}) : at::Tensor(),
          .rows = scope.placement().rows};
}

at::Tensor Linear::Forward(const at::Tensor& x) const { return Run(x, PostOp::kNone, {}); }

at::Tensor Linear::ForwardGelu(const at::Tensor& x) const {
  if (weight.is_mkldnn()) return Run(x, PostOp::kGelu, {});
  return rows->RunAlone(Forward(x), [](at::TensorList inputs) { return at::gelu(inputs[0]); });
}

at::Tensor Linear::ForwardAdd(const at::Tensor& x, const at::Tensor& addend) const {
  return Run(x, PostOp::kAdd, addend);
}

at::Tensor Linear::ForwardMultiply(const at::Tensor& x, const at::Tensor& factor) const {
  return Run(x, PostOp::kMultiply, factor);
}

at::Tensor Linear::Run(const at::Tensor& x, PostOp post_op, const at::Tensor& operand) const {
  const RowInvariance::Operation operation = {
      .kind = "linear",
      .constants = {weight.size(0), bias.defined(), static_cast<int64_t>(post_op)},
      .row = {x.size(1), weight.numel()}};
  const auto run = [&](at::TensorList inputs) {
    return RunLinear(inputs[0], weight, bias, post_op, inputs[1]);
  };
  const auto sum = [&](at::TensorList inputs) {
    return RunLinear(inputs[0], weight, bias, SumOrNone(inputs[1]), inputs[1]);
  };
  if (!weight.is_mkldnn()) return rows->Run(operation, {x, operand}, run);
  return rows->RunProduct(operation, {x, operand}, run, sum);
}

Conv2d Conv2d::Load(const WeightScope& scope, int64_t in, int64_t out, int64_t kernel, int64_t side,
                    int64_t stride) {
  const int64_t padding = kernel / 2;
  return {.weight = PackConv2dWeight(scope.TakeKernels("weight", {out, in, kernel, kernel}), stride,
                                     padding, side),
          .bias = scope.Take("bias", {out}),
          .stride = stride,
          .padding = padding,
          .rows = scope.placement().rows};
}

at::Tensor Conv2d::Forward(const at::Tensor& x) const { return Run(x, PostOp::kNone, {}); }

at::Tensor Conv2d::ForwardAdd(const at::Tensor& x, const at::Tensor& addend) const {
  return Run(x, PostOp::kAdd, addend);
}

at::Tensor Conv2d::Run(const at::Tensor& x, PostOp post_op, const at::Tensor& operand) const {
  if (IsWinogradWeight(weight)) {  // a row's result depends on that row alone
    return RunConv2d(x, weight, bias, stride, padding, post_op, operand);
  }
  const int64_t positions = x.size(2) * x.size(3) / (stride * stride);
  const RowInvariance::Operation operation = {
      .kind = "conv2d",
      .constants = {bias.size(0), weight.size(2), stride, static_cast<int64_t>(post_op)},
      .row = {positions, weight.numel()}};
  const auto run = [&](at::TensorList inputs) {
    return RunConv2d(inputs[0], weight, bias, stride, padding, post_op, inputs[1]);
  };
  const auto sum = [&](at::TensorList inputs) {
    return RunConv2d(inputs[0], weight, bias, stride, padding, SumOrNone(inputs[1]), inputs[1]);
  };
  if (!weight.is_mkldnn()) return rows->Run(operation, {x, operand}, run);
  return rows->RunProduct(operation, {x, operand}, run, sum);
}

GroupNorm GroupNorm::Load(const WeightScope& scope, int64_t channels, int64_t groups, double eps) {
  return {.weight = scope.Take("weight", {channels}),
          .bias = scope.Take("bias", {channels}),
          .groups = groups,
          .eps = eps,
          .rows = scope.placement().rows};
}

at::Tensor GroupNorm::Forward(const at::Tensor& x) const { return Run(x, {}, {}, false); }

at::Tensor GroupNorm::ForwardSilu(const at::Tensor& x) const { return Run(x, {}, {}, true); }

at::Tensor GroupNorm::ForwardSiluOver(const at::Tensor& x) const {
  return Run(x, {}, {}, true, /*in_place=*/true);
}

at::Tensor GroupNorm::ForwardSilu(const at::Tensor& x, const at::Tensor& channel_bias) const {
  return Run(x, {}, channel_bias, true);
}

at::Tensor GroupNorm::ForwardSiluOfBoth(const at::Tensor& x, const at::Tensor& skip) const {
  return Run(x, skip, {}, true);
}

at::Tensor GroupNorm::Run(const at::Tensor& x, const at::Tensor& skip,
                          const at::Tensor& channel_bias, bool silu, bool in_place) const {
  if (HasGroupNormKernel(x)) {
    return GroupNormChannelsLast(
        x, skip, channel_bias, weight, bias,
        {.groups = groups, .eps = eps, .silu = silu, .in_place = in_place});
  }
  at::Tensor whole = skip.defined() ? at::cat({x, skip}, 1) : x;
  if (channel_bias.defined()) whole = whole + channel_bias.unsqueeze(-1).unsqueeze(-1);
  return rows->RunAlone(whole, [&](at::TensorList inputs) {
    at::Tensor normed = at::group_norm(inputs[0], groups, weight, bias, eps);
    return silu ? at::silu_(normed) : normed;
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

SelfAttention SelfAttention::Load(const Scopes& scopes, int64_t width, int64_t heads,
                                  bool qkv_has_bias) {
  std::vector<at::Tensor> weights, biases;
  for (const WeightScope* scope : {&scopes.to_q, &scopes.to_k, &scopes.to_v}) {
    weights.push_back(scope->Take("weight", {width, width}));
    if (qkv_has_bias) biases.push_back(scope->Take("bias", {width}));
  }
  return {.to_qkv = {.weight = PackLinearWeight(at::cat(weights)),
                     .bias = qkv_has_bias ? at::cat(biases) : at::Tensor(),
                     .rows = scopes.to_q.placement().rows},
          .to_out = Linear::Load(scopes.to_out, width, width),
          .heads = heads};
}

at::Tensor SelfAttention::ForwardAdd(const at::Tensor& x, const at::Tensor& residual) const {
  return to_out.ForwardAdd(Attend(to_qkv.Forward(x), heads), residual);
}

ResnetBlock ResnetBlock::Load(const WeightScope& scope, int64_t in, int64_t out, int64_t groups,
                              double eps, int64_t side, int64_t skip) {
  ResnetBlock block = {.norm1 = GroupNorm::Load(scope["norm1"], in, groups, eps),
                       .conv1 = Conv2d::Load(scope["conv1"], in, out, 3, side),
                       .norm2 = GroupNorm::Load(scope["norm2"], out, groups, eps),
                       .conv2 = Conv2d::Load(scope["conv2"], out, out, 3, side)};
  if (in == out) return block;
  const at::Tensor shortcut = scope["conv_shortcut"].Take("weight", {out, in, 1, 1}).flatten(1);
  const auto columns = [&](int64_t first, int64_t count, const at::Tensor& bias) {
    return Linear{.weight = PackLinearWeight(shortcut.narrow(1, first, count).contiguous()),
                  .bias = bias,
                  .rows = scope.placement().rows};
  };
  block.conv_shortcut = columns(0, in - skip, scope["conv_shortcut"].Take("bias", {out}));
  if (skip > 0) block.skip_shortcut = columns(in - skip, skip, {});
  return block;
}

at::Tensor ResnetBlock::Forward(const at::Tensor& x, const at::Tensor& skip,
                                const at::Tensor& time_bias) const {
  const RowInvariance::Work row = {x.size(2) * x.size(3), conv2.weight.numel()};
  const int64_t results = row.positions * conv2.bias.size(0);
  if (IsWinogradWeight(conv2.weight) && results <= kMostResultsInCompany) {
    return Chain(x, skip, time_bias);
  }
  return conv2.rows->RunChain(row, {x, skip, time_bias}, [&](at::TensorList inputs) {
    return Chain(inputs[0], inputs[1], inputs[2]);
  });
}

at::Tensor ResnetBlock::ForwardOver(at::Tensor x) const {
  if (!conv_shortcut) return Forward(x);
  const at::Tensor residual = FromTokens(conv_shortcut->Forward(ToTokens(x)), x);
  x = conv1.Forward(norm1.ForwardSiluOver(x));
  x = norm2.ForwardSilu(x);
  return conv2.ForwardAdd(x, residual);
}

at::Tensor ResnetBlock::Chain(const at::Tensor& x, const at::Tensor& skip,
                              const at::Tensor& time_bias) const {
  at::Tensor h = conv1.Forward(norm1.ForwardSiluOfBoth(x, skip));
  h = norm2.ForwardSilu(h, time_bias);
  // Now, and not first: it would be in memory beside norm1's result.
  at::Tensor residual = x;
  if (conv_shortcut) residual = FromTokens(conv_shortcut->Forward(ToTokens(x)), x);
  if (skip_shortcut) {
    residual = FromTokens(skip_shortcut->ForwardAdd(ToTokens(skip), ToTokens(residual)), x);
  }
  if (skip.defined() && !skip_shortcut) residual = ToChannelsLast(at::cat({x, skip}, 1));
  return conv2.ForwardAdd(h, residual);
}

at::Tensor ToTokens(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1}).contiguous().flatten(1, 2);
}

at::Tensor FromTokens(const at::Tensor& tokens, const at::Tensor& like) {
  return tokens.view({-1, like.size(2), like.size(3), tokens.size(2)}).permute({0, 3, 1, 2});
}

at::Tensor ToChannelsLast(const at::Tensor& x) {
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace image_variations
