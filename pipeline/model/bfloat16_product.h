// Small products of bfloat16 matrices in float32, for processors with AVX512_BF16. LibTorch offers
// oneDNN's only where there is AMX.
#pragma once

#include <cstdint>

#include "c10/util/BFloat16.h"

namespace image_variations {

// Whether this processor and this compiler have what the functions below need.
bool HasBfloat16Product();

// c = a * b, or c += a * b. a: (m, k); b: (k / 2, n, 2), pairs of consecutive k next to each other;
// c: (m, n). Strides: of a row of a, of a row of pairs of b (in pairs), of a row of c. k is even.
// The order of the additions is that of k, whatever m and n are.
void MultiplyBfloat16(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                      int64_t stride_c, bool add, const c10::BFloat16* a, const c10::BFloat16* b,
                      float* c);

// Half to even.
void RoundToBfloat16(const float* x, int64_t size, c10::BFloat16* out);

}  // namespace image_variations
