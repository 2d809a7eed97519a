// Small products of matrices in float32, for processors with AVX-512: what LibTorch and oneDNN
// offer costs more to call than to compute, and bfloat16 ones need AMX there.
#pragma once

#include <cstdint>

#include "c10/core/ScalarType.h"
#include "c10/util/BFloat16.h"

namespace image_variations {

// Whether this processor and this compiler have what the functions below need.
bool HasSmallProduct(c10::ScalarType);

// c = a * b, or c += a * b. a: (m, k); b: (k, n) in float32, (k / 2, n, 2) in bfloat16: pairs of
// consecutive k next to each other, and k is even; c: (m, n). Strides: of a row of a, of a row (of
// pairs) of b, in values (pairs), and of a row of c. The order of the additions is that of k,
// whatever m and n are.
void MultiplySmall(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                   int64_t stride_c, bool add, const float* a, const float* b, float* c);
void MultiplySmall(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                   int64_t stride_c, bool add, const c10::BFloat16* a, const c10::BFloat16* b,
                   float* c);

}  // namespace image_variations
