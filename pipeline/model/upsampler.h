// Nearest neighbour to twice the size, then a convolution.
#pragma once

#include <array>

#include "ATen/core/Tensor.h"
#include "pipeline/model/layers.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

// In a picture whose pixels stand twice in each direction, the nine pixels under a 3x3 kernel are
// but four different ones, so the kernel is one of 2x2 over the small picture, with the weights of
// equal pixels added: 4/9 of the multiplications. Which are equal depends on whether the row and
// the column of the result are even or odd.
struct Upsampler {
  // 2x2, for even rows and for odd ones; outputs: those for even columns, then those for odd ones.
  std::array<Conv2d, 2> phases;
  // The plain convolution, for sizes that are not twice those of x. Few requests have them: on the
  // CPU the weight stays in the model's file, in that file's type.
  at::Tensor weight, bias;

  // `side`: of the pictures before.
  static Upsampler Load(const WeightScope&, int64_t channels, int64_t side);
  static Upsampler Make(const at::Tensor& weight, const at::Tensor& bias, int64_t side,
                        RowInvariance* rows);
  at::Tensor Forward(const at::Tensor& x, int64_t height, int64_t width) const;

 private:
  at::Tensor ForwardPlain(const at::Tensor& x, int64_t height, int64_t width) const;
};

}  // namespace image_variations
