// 3x3 convolutions of stride 1, padded by one, with 16 multiplications for four results instead of
// 36: F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
// section 4.1. Equal to the definition up to rounding.
#pragma once

#include "ATen/core/Tensor.h"

namespace image_variations {

// For a weight, (out, in, 3, 3), and pictures whose channels-last values follow each other.
bool HasWinogradKernel(const at::Tensor& weight);

// (16, blocks of outputs, in, outputs of a block), transformed; bfloat16: (.., in / 2, .., 2).
at::Tensor PackWinogradWeight(const at::Tensor& weight);
bool IsWinogradWeight(const at::Tensor& weight);

// x: (rows, in, h, w) of any size; bias: (out); `addend` is added to the result and may be
// undefined. A row's result depends on that row alone, and not on the number of threads.
at::Tensor RunWinograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& addend);

}  // namespace image_variations
