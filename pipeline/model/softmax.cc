#include "pipeline/model/softmax.h"

#include <algorithm>
#include <numeric>

#include "pipeline/base/status_macros.h"
#include "pipeline/model/avx512.h"
#include "pipeline/model/small_product.h"

namespace image_variations {

#ifdef IV_HAS_AVX512
namespace {

constexpr int64_t kUnrolled = 4 * kLanes;
constexpr __mmask16 kAll = 0xffff;  // GCC's functions without a mask make it warn of their own code

inline __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? kAll : (1 << std::max<int64_t>(count, 0)) - 1);
}

// 2^x by a polynomial of x - floor(x), whose largest relative error is 2^-23.5.
IV_AVX512 inline __m512 PowerOfTwo(__m512 x) {
  const __m512 fraction =
      _mm512_maskz_reduce_ps(kAll, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(1.867130050e-3f);
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(9.017030708e-3f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(5.579991266e-2f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(2.401644439e-1f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(6.931512951e-1f));
  p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(kAll, p, x);  // by 2^floor(x)
}

// Of a pair of which the first is no number, the second.
IV_AVX512 inline __m512 Larger(__m512 a, __m512 b) { return _mm512_maskz_max_ps(kAll, a, b); }

IV_AVX512 inline __m512 LargerHalf(__m512 v, __m512i order) {
  return Larger(_mm512_maskz_permutexvar_ps(kAll, order, v), v);
}

// The largest score, in every lane.
IV_AVX512 inline __m512 LargestScore(const float* scores, int64_t size) {
  const __m512 start = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
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
IV_AVX512_BF16 inline __m512 Weigh(const float* scores, const ScoreBlock& block, __m512 factor,
                                   __m512 shift, __m512 sum, T* weights) {
  __m512 sums[4] = {sum, _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + kUnrolled <= block.size; i += kUnrolled) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const __m512 score = _mm512_loadu_ps(scores + i + part * kLanes);
      const __m512 weight = PowerOfTwo(_mm512_fmsub_ps(score, factor, shift));
      sums[part] = _mm512_add_ps(sums[part], weight);
      StoreLanes(weight, weights + i + part * kLanes);
    }
  }
  for (; i < block.padded_size; i += kLanes) {
    const __mmask16 used = FirstLanes(block.size - i);
    const __m512 score = _mm512_maskz_loadu_ps(used, scores + i);
    const __m512 weight =
        _mm512_maskz_mov_ps(used, PowerOfTwo(_mm512_fmsub_ps(score, factor, shift)));
    sums[0] = _mm512_add_ps(sums[0], weight);
    StoreSome(weight, FirstLanes(block.padded_size - i), weights + i);
  }
  return _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
}

// Brings a row to a larger shift.
IV_AVX512_BF16 void Correct(float shift, RunningSoftmax* row, float* sums, int64_t width) {
  const __m512 correction = PowerOfTwo(_mm512_set1_ps(row->shift - shift));
  _mm512_storeu_ps(row->weight_sums, _mm512_mul_ps(_mm512_loadu_ps(row->weight_sums), correction));
  for (int64_t i = 0; i < width; i += kLanes) {
    const __mmask16 used = FirstLanes(width - i);
    StoreSome(_mm512_mul_ps(_mm512_maskz_loadu_ps(used, sums + i), correction), used, sums + i);
  }
}

template <typename T>
IV_AVX512_BF16 void WeighBlock(const ScoreBlock& block, float factor, RunningSoftmax* softmax,
                               const WeightedSums& sums) {
  const __m512 factors = _mm512_set1_ps(factor);
  const auto largest = [&](int64_t row) IV_AVX512 {
    return _mm512_mul_ps(LargestScore(block.scores + row * block.stride, block.size), factors);
  };
  __m512 next_shift = largest(0);
  for (int64_t r = 0; r < block.rows; ++r) {
    RunningSoftmax* const row = softmax + r;
    const __m512 shift = Larger(next_shift, _mm512_set1_ps(row->shift));
    // Early, so that it is there when the next row begins.
    if (r + 1 < block.rows) next_shift = largest(r + 1);
    const bool is_first = row->shift == -std::numeric_limits<float>::infinity();
    const float new_shift = _mm512_cvtss_f32(shift);
    if (new_shift > row->shift && !is_first) {
      Correct(new_shift, row, sums.sums + r * sums.stride, sums.width);
    }
    row->shift = new_shift;
    float* const scores = block.scores + r * block.stride;
    _mm512_storeu_ps(row->weight_sums,
                     Weigh(scores, block, factors, shift, _mm512_loadu_ps(row->weight_sums),
                           reinterpret_cast<T*>(scores)));
  }
}

}  // namespace

template <typename T>
void WeighScores(const ScoreBlock& block, float factor, RunningSoftmax* softmax,
                 const WeightedSums& sums) {
  WeighBlock<T>(block, factor, softmax, sums);
}

#else

template <typename T>
void WeighScores(const ScoreBlock&, float, RunningSoftmax*, const WeightedSums&) {
  IV_CHECK(HasSmallProduct(c10::CppTypeToScalarType<T>::value));
}

#endif

template void WeighScores<float>(const ScoreBlock&, float, RunningSoftmax*, const WeightedSums&);
template void WeighScores<c10::BFloat16>(const ScoreBlock&, float, RunningSoftmax*,
                                         const WeightedSums&);

float RunningSoftmax::WeightSum() const {
  return std::accumulate(weight_sums, weight_sums + kLanes, 0.0f);
}

}  // namespace image_variations
