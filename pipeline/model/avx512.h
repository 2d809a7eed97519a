// What the kernels written for AVX-512 share. They are compiled for it whatever the rest is
// compiled for; callers ask HasSmallProduct first.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#include "c10/util/BFloat16.h"

#define IV_HAS_AVX512 1
#define IV_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define IV_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace image_variations {

constexpr int kLanes = 16;  // of a register

IV_AVX512_BF16 inline __m512 LoadLanes(const float* x) { return _mm512_loadu_ps(x); }
IV_AVX512_BF16 inline __m512 LoadLanes(const c10::BFloat16* x) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(
      _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, halves), 16));
}

IV_AVX512_BF16 inline void StoreLanes(__m512 value, float* out) { _mm512_storeu_ps(out, value); }
IV_AVX512_BF16 inline void StoreLanes(__m512 value, c10::BFloat16* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
}

}  // namespace image_variations
#endif
