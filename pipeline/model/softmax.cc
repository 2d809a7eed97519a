#include "pipeline/model/softmax.h"

#include <algorithm>
#include <numeric>

#include "pipeline/base/status_macros.h"
#include "pipeline/model/avx512.h"
#include "pipeline/model/small_product.h"

namespace image_variations {

#ifdef IV_HAS_AVX512
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int64_t kUnrolled = 4 * kLanes;
constexpr __mmask16 kAll = 0xffff;  // GCC's functions without a mask make it warn of their own code

inline __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? kAll : (1 << std::max<int64_t>(count, 0)) - 1);
}

// 2^x by a polynomial of the fraction, whose largest relative error on [-0.5, 0.5] is 2^-23.6.
IV_AVX512 inline __m512 PowerOfTwo(__m512 x) {
  const __m512 whole =
      _mm512_maskz_roundscale_ps(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 fraction = _mm512_sub_ps(x, whole);
  __m512 p = _mm512_set1_ps(1.327647182e-3f);
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(9.675541368e-3f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(5.550713274e-2f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(2.402211972e-1f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(6.931469671e-1f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(kAll, p, whole);
}

// Of a pair of which the first is no number, the second.
IV_AVX512 inline __m512 Larger(__m512 a, __m512 b) { return _mm512_maskz_max_ps(kAll, a, b); }

IV_AVX512 inline __m512 LargerHalf(__m512 v, __m512i order) {
  return Larger(_mm512_maskz_permutexvar_ps(kAll, order, v), v);
}

// The largest score, in every lane.
IV_AVX512 inline __m512 LargestScore(const float* scores, int64_t size, __m512 start) {
  __m512 largest[4] = {start, start, start, start};
  int64_t i = 0;
  for (; i + kUnrolled <= size; i += kUnrolled) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      largest[part] = Larger(_mm512_loadu_ps(scores + i + part * kLanes), largest[part]);
    }
  }
  for (; i < size; i += kLanes) {
    const __mmask16 used = FirstLanes(size - i);
    largest[0] =
        _mm512_mask_max_ps(largest[0], used, _mm512_maskz_loadu_ps(used, scores + i), largest[0]);
  }
  __m512 v = Larger(Larger(largest[0], largest[1]), Larger(largest[2], largest[3]));
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 4
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    v = LargerHalf(v, _mm512_xor_si512(lanes, _mm512_set1_epi32(distance)));
  }
  return v;
}

IV_AVX512_BF16 inline void StoreSome(__m512 value, __mmask16 mask, float* out) {
  _mm512_mask_storeu_ps(out, mask, value);
}
IV_AVX512_BF16 inline void StoreSome(__m512 value, __mmask16 mask, c10::BFloat16* out) {
  _mm256_mask_storeu_epi16(out, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
}

// Adds the weights to `sum`, by lanes.
template <typename T>
IV_AVX512_BF16 inline __m512 Weigh(const float* scores, int64_t size, int64_t padded_size,
                                   __m512 factor, __m512 maximum, __m512 sum, T* weights) {
  __m512 sums[4] = {sum, _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + kUnrolled <= size; i += kUnrolled) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const __m512 score = _mm512_loadu_ps(scores + i + part * kLanes);
      const __m512 weight = PowerOfTwo(_mm512_mul_ps(_mm512_sub_ps(score, maximum), factor));
      sums[part] = _mm512_add_ps(sums[part], weight);
      StoreLanes(weight, weights + i + part * kLanes);
    }
  }
  for (; i < padded_size; i += kLanes) {
    const __mmask16 used = FirstLanes(size - i);
    const __m512 score = _mm512_maskz_loadu_ps(used, scores + i);
    const __m512 weight =
        _mm512_maskz_mov_ps(used, PowerOfTwo(_mm512_mul_ps(_mm512_sub_ps(score, maximum), factor)));
    sums[0] = _mm512_add_ps(sums[0], weight);
    StoreSome(weight, FirstLanes(padded_size - i), weights + i);
  }
  return _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
}

template <typename T>
IV_AVX512_BF16 void WeighBlock(const float* scores, int64_t size, int64_t padded_size, float scale,
                               RunningSoftmax* row, float* sums, int64_t width, T* weights) {
  const __m512 factor = _mm512_set1_ps(scale * kLog2E);
  const __m512 before = _mm512_set1_ps(row->maximum);
  const __m512 maximum = LargestScore(scores, size, before);
  const float largest = _mm512_cvtss_f32(maximum);
  __m512 weight_sums = _mm512_loadu_ps(row->weight_sums);
  if (largest > row->maximum && row->maximum > -std::numeric_limits<float>::infinity()) {
    const __m512 correction = PowerOfTwo(_mm512_mul_ps(_mm512_sub_ps(before, maximum), factor));
    weight_sums = _mm512_mul_ps(weight_sums, correction);
    for (int64_t i = 0; i < width; i += kLanes) {
      const __mmask16 used = FirstLanes(width - i);
      StoreSome(_mm512_mul_ps(_mm512_maskz_loadu_ps(used, sums + i), correction), used, sums + i);
    }
  }
  weight_sums = Weigh(scores, size, padded_size, factor, maximum, weight_sums, weights);
  row->maximum = largest;
  _mm512_storeu_ps(row->weight_sums, weight_sums);
}

}  // namespace

void WeighScores(const float* scores, int64_t size, int64_t padded_size, float scale,
                 RunningSoftmax* row, float* sums, int64_t width, float* weights) {
  WeighBlock(scores, size, padded_size, scale, row, sums, width, weights);
}

void WeighScores(const float* scores, int64_t size, int64_t padded_size, float scale,
                 RunningSoftmax* row, float* sums, int64_t width, c10::BFloat16* weights) {
  WeighBlock(scores, size, padded_size, scale, row, sums, width, weights);
}

#else

void WeighScores(const float*, int64_t, int64_t, float, RunningSoftmax*, float*, int64_t, float*) {
  IV_CHECK(HasSmallProduct(c10::kFloat));
}

void WeighScores(const float*, int64_t, int64_t, float, RunningSoftmax*, float*, int64_t,
                 c10::BFloat16*) {
  IV_CHECK(HasSmallProduct(c10::kBFloat16));
}

#endif

float RunningSoftmax::WeightSum() const {
  return std::accumulate(weight_sums, weight_sums + kLanes, 0.0f);
}

}  // namespace image_variations
