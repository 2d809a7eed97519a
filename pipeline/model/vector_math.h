// Loops over channels and keys, compiled once per instruction set; the best one for the machine is
// chosen when the program is loaded. float32 arithmetic on float32 or bfloat16 in memory.
#pragma once

#include <cstdint>

#include "c10/util/BFloat16.h"

namespace image_variations {

// sums[i] += x[i] - origin[i], squares[i] += (x[i] - origin[i])^2.
void AddMoments(const float* x, const float* origin, int64_t size, float* sums, float* squares);
void AddMoments(const c10::BFloat16* x, const float* origin, int64_t size, float* sums,
                float* squares);

// out[i] = x[i] * scale[i] + shift[i]; ...Silu: SiLU of that.
void ScaleShift(const float* x, const float* scale, const float* shift, int64_t size, float* out);
void ScaleShift(const c10::BFloat16* x, const float* scale, const float* shift, int64_t size,
                c10::BFloat16* out);
void ScaleShiftSilu(const float* x, const float* scale, const float* shift, int64_t size,
                    float* out);
void ScaleShiftSilu(const c10::BFloat16* x, const float* scale, const float* shift, int64_t size,
                    c10::BFloat16* out);

// CLIP's "quick GELU": out[i] = x[i] / (1 + exp(-1.702 * x[i])), where `out` may be `x`.
void QuickGelu(const float* x, int64_t size, float* out);
void QuickGelu(const c10::BFloat16* x, int64_t size, c10::BFloat16* out);

// out[i] = x[i] * factor.
void Multiply(const float* x, int64_t size, float factor, float* out);
void Multiply(const float* x, int64_t size, float factor, c10::BFloat16* out);

// out[2 * i] = x[i], out[2 * i + 1] = y[i].
void Interleave(const c10::BFloat16* x, const c10::BFloat16* y, int64_t size, c10::BFloat16* out);

// Copies `size` float32 numbers, each `stride`-th from `x` on, which may be any address, rounded
// half to even. Returns the bits of the largest magnitude among them, where infinity is larger than
// numbers and NaN than infinity.
uint32_t CopyAndFindLargest(const char* x, int64_t stride, int64_t size, float* out);
uint32_t CopyAndFindLargest(const char* x, int64_t stride, int64_t size, c10::BFloat16* out);

}  // namespace image_variations
