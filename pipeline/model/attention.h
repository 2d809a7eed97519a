// Softmax attention of tokens to each other.
#pragma once

#include "ATen/core/Tensor.h"

namespace image_variations {

// `projected`: (rows, tokens, 3 * width), each token's query, key and value after each other, each
// of them `heads` heads wide. Returns (rows, tokens, width). On the CPU a row's result depends on
// that row alone, and not on the number of threads.
at::Tensor Attend(const at::Tensor& projected, int64_t heads);

}  // namespace image_variations
