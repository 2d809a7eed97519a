#include "pipeline/model/vector_math.h"

#include <algorithm>
#include <bit>
#include <cstring>

// GCC makes one function per instruction set and picks one when the program is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define IV_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define IV_CLONES
#endif
// The body of clones, compiled for the instruction set of each.
#define IV_BODY inline __attribute__((always_inline))

namespace image_variations {
namespace {

using c10::BFloat16;

// One AVX-512 register; reductions keep this many partial results, whatever the instruction set.
constexpr int64_t kLanes = 16;

IV_BODY float Load(const float* x) { return *x; }
IV_BODY float Load(const BFloat16* x) { return std::bit_cast<float>(uint32_t{x->x} << 16); }

IV_BODY void Store(float value, float* out) { *out = value; }
// Rounds half to even. A NaN keeps its sign and its high bits, of which one is always set here.
IV_BODY void Store(float value, BFloat16* out) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  out->x = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Within 2 ulp of exp for -80 <= x <= 80, which others are taken for; NaN stays NaN. Polynomial:
// Cephes' expf.
IV_BODY float Exp(float x) {
  x = x < -80.0f ? -80.0f : x;
  x = x > 80.0f ? 80.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: its last bits are the integer's
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

template <typename T>
IV_BODY void AddMomentsBody(const T* x, const float* origin, int64_t size, float* sums,
                            float* squares) {
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    const float value = Load(x + i) - origin[i];
    sums[i] += value;
    squares[i] += value * value;
  }
}

template <bool kSilu, typename T>
IV_BODY void ScaleShiftBody(const T* x, const float* scale, const float* shift, int64_t size,
                            T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    const float value = Load(x + i) * scale[i] + shift[i];
    Store(kSilu ? value / (1.0f + Exp(-value)) : value, out + i);
  }
}

template <typename T>
IV_BODY void QuickGeluBody(const T* x, int64_t size, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    const float value = Load(x + i);
    Store(value / (1.0f + Exp(-1.702f * value)), out + i);
  }
}

template <typename T>
IV_BODY void MultiplyBody(const float* x, int64_t size, float factor, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) Store(x[i] * factor, out + i);
}

template <typename T>
IV_BODY uint32_t CopyAndFindLargestBody(const char* x, int64_t stride, int64_t size, T* out) {
  uint32_t largest = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i * stride * static_cast<int64_t>(sizeof bits), sizeof bits);
    largest = std::max(largest, bits & 0x7fffffff);
    Store(std::bit_cast<float>(bits), out + i);
  }
  return largest;
}

}  // namespace

IV_CLONES void AddMoments(const float* x, const float* origin, int64_t size, float* sums,
                          float* squares) {
  AddMomentsBody(x, origin, size, sums, squares);
}

IV_CLONES void AddMoments(const BFloat16* x, const float* origin, int64_t size, float* sums,
                          float* squares) {
  AddMomentsBody(x, origin, size, sums, squares);
}

IV_CLONES void ScaleShift(const float* x, const float* scale, const float* shift, int64_t size,
                          float* out) {
  ScaleShiftBody<false>(x, scale, shift, size, out);
}

IV_CLONES void ScaleShift(const BFloat16* x, const float* scale, const float* shift, int64_t size,
                          BFloat16* out) {
  ScaleShiftBody<false>(x, scale, shift, size, out);
}

IV_CLONES void ScaleShiftSilu(const float* x, const float* scale, const float* shift, int64_t size,
                              float* out) {
  ScaleShiftBody<true>(x, scale, shift, size, out);
}

IV_CLONES void ScaleShiftSilu(const BFloat16* x, const float* scale, const float* shift,
                              int64_t size, BFloat16* out) {
  ScaleShiftBody<true>(x, scale, shift, size, out);
}

IV_CLONES void QuickGelu(const float* x, int64_t size, float* out) { QuickGeluBody(x, size, out); }

IV_CLONES void QuickGelu(const BFloat16* x, int64_t size, BFloat16* out) {
  QuickGeluBody(x, size, out);
}

IV_CLONES void Multiply(const float* x, int64_t size, float factor, float* out) {
  MultiplyBody(x, size, factor, out);
}

IV_CLONES void Multiply(const float* x, int64_t size, float factor, BFloat16* out) {
  MultiplyBody(x, size, factor, out);
}

IV_CLONES void Interleave(const BFloat16* x, const BFloat16* y, int64_t size, BFloat16* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    out[2 * i].x = x[i].x;
    out[2 * i + 1].x = y[i].x;
  }
}

IV_CLONES uint32_t CopyAndFindLargest(const char* x, int64_t stride, int64_t size, float* out) {
  if (stride == 1) return CopyAndFindLargestBody(x, 1, size, out);
  return CopyAndFindLargestBody(x, stride, size, out);
}

IV_CLONES uint32_t CopyAndFindLargest(const char* x, int64_t stride, int64_t size, BFloat16* out) {
  if (stride == 1) return CopyAndFindLargestBody(x, 1, size, out);
  return CopyAndFindLargestBody(x, stride, size, out);
}

}  // namespace image_variations
