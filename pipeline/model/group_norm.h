// GroupNorm over channels-last activations on the CPU: normalisation, what is added before it and
// the activation after it in two passes over memory.
#pragma once

#include "ATen/core/Tensor.h"

namespace image_variations {

// float32 or bfloat16 on the CPU, dense in channels-last order.
bool HasGroupNormKernel(const at::Tensor& x);

struct GroupNormOptions {
  int64_t groups = 32;
  double eps = 1e-5;
  bool silu = false;
  bool in_place = false;  // the result takes the place of `x`; without `skip`
};

// Normalises the channels of `x` and then those of `skip` as if they were one tensor, (rows,
// channels, h, w), after adding `channel_bias`, (rows, channels). `skip` and `channel_bias` may be
// undefined. A row's result depends on that row alone, and not on the number of threads.
at::Tensor GroupNormChannelsLast(const at::Tensor& x, const at::Tensor& skip,
                                 const at::Tensor& channel_bias, const at::Tensor& weight,
                                 const at::Tensor& bias, const GroupNormOptions&);

}  // namespace image_variations
