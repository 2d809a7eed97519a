#include "pipeline/model/small_product.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "pipeline/base/status_macros.h"
#include "pipeline/model/avx512.h"

namespace image_variations {

#ifdef IV_HAS_AVX512
namespace {

using c10::BFloat16;

constexpr int kRowsPerTile = 6;  // 6 x 4 sums, 4 of b and one of a: 29 of 32 registers
constexpr int kMostColumns = 4;

struct Strides {
  int64_t a, b, c;
};

// What a step over k takes from one row of a, and from one register's columns of b.
IV_AVX512 inline __m512 Broadcast(const float* a) { return _mm512_set1_ps(*a); }
IV_AVX512 inline __m512i Broadcast(const BFloat16* a) {
  int32_t pair;
  std::memcpy(&pair, a, sizeof pair);
  return _mm512_set1_epi32(pair);
}
IV_AVX512 inline __m512 LoadColumns(__mmask16 mask, const float* b) {
  return _mm512_maskz_loadu_ps(mask, b);
}
IV_AVX512 inline __m512i LoadColumns(__mmask16 mask, const BFloat16* b) {
  return _mm512_maskz_loadu_epi32(mask, b);
}
IV_AVX512 inline __m512 MultiplyAdd(__m512 sum, __m512 a, __m512 b) {
  return _mm512_fmadd_ps(a, b, sum);
}
IV_AVX512_BF16 inline __m512 MultiplyAdd(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

template <typename T>
constexpr int kGroup = std::is_same_v<T, float> ? 1 : 2;  // of k, in one step

// kRows rows and kColumns registers of c; the last register's lanes are those of `mask`.
template <int kRows, int kColumns, typename T>
IV_AVX512_BF16 inline void MultiplyTile(int64_t k, const Strides& strides, bool add, __mmask16 mask,
                                        const T* a, const T* b, float* c) {
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
  for (int64_t step = 0; step < k / kGroup<T>; ++step) {
    decltype(LoadColumns(mask, b)) right[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      right[column] =
          LoadColumns(lanes(column), b + kGroup<T> * (step * strides.b + column * kLanes));
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const auto left = Broadcast(a + row * strides.a + kGroup<T> * step);
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column) {
        sums[row][column] = MultiplyAdd(sums[row][column], left, right[column]);
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

// `rows`: less than a tile has.
template <int kRows, int kColumns, typename T>
IV_AVX512_BF16 void MultiplyRest(int64_t rows, int64_t k, const Strides& strides, bool add,
                                 __mmask16 mask, const T* a, const T* b, float* c) {
  if (rows == kRows) return MultiplyTile<kRows, kColumns>(k, strides, add, mask, a, b, c);
  if constexpr (kRows > 1) {
    MultiplyRest<kRows - 1, kColumns>(rows, k, strides, add, mask, a, b, c);
  }
}

template <int kColumns, typename T>
IV_AVX512_BF16 void MultiplyColumns(int64_t m, int64_t k, const Strides& strides, bool add,
                                    __mmask16 mask, const T* a, const T* b, float* c) {
  int64_t row = 0;
  for (; row + kRowsPerTile <= m; row += kRowsPerTile) {
    MultiplyTile<kRowsPerTile, kColumns>(k, strides, add, mask, a + row * strides.a, b,
                                         c + row * strides.c);
  }
  if (row == m) return;
  MultiplyRest<kRowsPerTile - 1, kColumns>(m - row, k, strides, add, mask, a + row * strides.a, b,
                                           c + row * strides.c);
}

template <typename T>
void Multiply(int64_t m, int64_t n, int64_t k, const Strides& strides, bool add, const T* a,
              const T* b, float* c) {
  for (int64_t column = 0; column < n; column += kMostColumns * kLanes) {
    const int64_t width = std::min<int64_t>(kMostColumns * kLanes, n - column);
    const int64_t rest = width % kLanes;
    const auto mask = static_cast<__mmask16>(rest == 0 ? 0xffff : (1 << rest) - 1);
    const T* right = b + kGroup<T> * column;
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

}  // namespace

bool HasSmallProduct(c10::ScalarType type) {
  if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq")) {
    return false;
  }
  return type == c10::kFloat || (type == c10::kBFloat16 && __builtin_cpu_supports("avx512bf16"));
}

void MultiplySmall(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                   int64_t stride_c, bool add, const float* a, const float* b, float* c) {
  Multiply(m, n, k, {stride_a, stride_b, stride_c}, add, a, b, c);
}

void MultiplySmall(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                   int64_t stride_c, bool add, const BFloat16* a, const BFloat16* b, float* c) {
  Multiply(m, n, k, {stride_a, stride_b, stride_c}, add, a, b, c);
}

#else

bool HasSmallProduct(c10::ScalarType) { return false; }

void MultiplySmall(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, const float*,
                   const float*, float*) {
  IV_CHECK(HasSmallProduct(c10::kFloat));
}

void MultiplySmall(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, const c10::BFloat16*,
                   const c10::BFloat16*, float*) {
  IV_CHECK(HasSmallProduct(c10::kBFloat16));
}

#endif

}  // namespace image_variations
