// Products with weights that are laid out once, when they are loaded. On a CPU that oneDNN has
// kernels for, that is oneDNN's own blocked layout, and what follows a product is done while its
// results are still in registers; elsewhere a packed weight is a plain tensor.
#pragma once

#include "ATen/core/Tensor.h"

namespace image_variations {

// What is done to a product and its bias. The last two take a tensor of the result's shape.
enum class PostOp { kNone, kGelu, kAdd, kMultiply };

// Results of any number of tokens or size of picture are right; `side` is the height and width
// that run without laying out the weight anew.
at::Tensor PackLinearWeight(const at::Tensor& weight);  // (out, in)
at::Tensor PackConv2dWeight(const at::Tensor& weight, int64_t stride, int64_t padding,
                            int64_t side);

// `weight` is packed or plain; `bias` may be undefined.
at::Tensor RunLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     PostOp post_op = PostOp::kNone, const at::Tensor& operand = {});
// PostOp: kNone or kAdd.
at::Tensor RunConv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     int64_t stride, int64_t padding, PostOp post_op = PostOp::kNone,
                     const at::Tensor& operand = {});

}  // namespace image_variations
