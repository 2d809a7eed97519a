#include "pipeline/model/bfloat16_product.h"

#include <algorithm>
#include <cstring>

#include "pipeline/base/status_macros.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define IV_HAS_BFLOAT16_PRODUCT 1
#define IV_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#endif

namespace image_variations {

#ifdef IV_HAS_BFLOAT16_PRODUCT
namespace {

using c10::BFloat16;

constexpr int64_t kLanes = 16;   // of a register
constexpr int kRowsPerTile = 6;  // 6 x 4 sums, 4 of b and one of a: 29 of 32 registers
constexpr int kMostColumns = 4;

struct Strides {
  int64_t a, b, c;
};

// kRows rows and kColumns registers of c; the last register's lanes are those of `mask`.
template <int kRows, int kColumns>
IV_AVX512_BF16 inline void MultiplyTile(int64_t k, const Strides& strides, bool add, __mmask16 mask,
                                        const BFloat16* a, const BFloat16* b, float* c) {
  const auto lanes = [mask](int column) {
    return column + 1 == kColumns ? mask : static_cast<__mmask16>(0xffff);
  };
  __m512 sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      sums[row][column] =
          add ? _mm512_maskz_loadu_ps(lanes(column), c + row * strides.c + column * kLanes)
              : _mm512_setzero_ps();
    }
  }
  for (int64_t pair = 0; pair < k / 2; ++pair) {
    __m512i right[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      right[column] =
          _mm512_maskz_loadu_epi32(lanes(column), b + 2 * (pair * strides.b + column * kLanes));
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      int32_t two;
      std::memcpy(&two, a + row * strides.a + 2 * pair, sizeof two);
      const auto left = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column) {
        sums[row][column] =
            _mm512_dpbf16_ps(sums[row][column], left, reinterpret_cast<__m512bh>(right[column]));
      }
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      _mm512_mask_storeu_ps(c + row * strides.c + column * kLanes, lanes(column),
                            sums[row][column]);
    }
  }
}

template <int kColumns>
IV_AVX512_BF16 void MultiplyColumns(int64_t m, int64_t k, const Strides& strides, bool add,
                                    __mmask16 mask, const BFloat16* a, const BFloat16* b,
                                    float* c) {
  int64_t row = 0;
  for (; row + kRowsPerTile <= m; row += kRowsPerTile) {
    MultiplyTile<kRowsPerTile, kColumns>(k, strides, add, mask, a + row * strides.a, b,
                                         c + row * strides.c);
  }
  for (; row < m; ++row) {
    MultiplyTile<1, kColumns>(k, strides, add, mask, a + row * strides.a, b, c + row * strides.c);
  }
}

}  // namespace

bool HasBfloat16Product() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl");
}

void MultiplyBfloat16(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                      int64_t stride_c, bool add, const BFloat16* a, const BFloat16* b, float* c) {
  const Strides strides{stride_a, stride_b, stride_c};
  for (int64_t column = 0; column < n; column += kMostColumns * kLanes) {
    const int64_t width = std::min(kMostColumns * kLanes, n - column);
    const int64_t rest = width % kLanes;
    const auto mask = static_cast<__mmask16>(rest == 0 ? 0xffff : (1 << rest) - 1);
    const BFloat16* right = b + 2 * column;
    switch ((width + kLanes - 1) / kLanes) {
      case 1:
        MultiplyColumns<1>(m, k, strides, add, mask, a, right, c + column);
        break;
      case 2:
        MultiplyColumns<2>(m, k, strides, add, mask, a, right, c + column);
        break;
      case 3:
        MultiplyColumns<3>(m, k, strides, add, mask, a, right, c + column);
        break;
      default:
        MultiplyColumns<4>(m, k, strides, add, mask, a, right, c + column);
    }
  }
}

IV_AVX512_BF16 void RoundToBfloat16(const float* x, int64_t size, BFloat16* out) {
  for (int64_t i = 0; i < size; i += kLanes) {
    const int64_t rest = std::min(kLanes, size - i);
    const auto mask = static_cast<__mmask16>((1 << rest) - 1);
    const auto rounded =
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i)));
    _mm256_mask_storeu_epi16(out + i, mask, rounded);
  }
}

#else

bool HasBfloat16Product() { return false; }

void MultiplyBfloat16(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool,
                      const c10::BFloat16*, const c10::BFloat16*, float*) {
  IV_CHECK(HasBfloat16Product());
}

void RoundToBfloat16(const float*, int64_t, c10::BFloat16*) { IV_CHECK(HasBfloat16Product()); }

#endif

}  // namespace image_variations
