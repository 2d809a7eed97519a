// The softmax of rows of scores that come in blocks (Milakov and Gimelshein, 2018), for processors
// with AVX-512 (HasSmallProduct says which).
#pragma once

#include <cstdint>
#include <limits>

#include "c10/util/BFloat16.h"

namespace image_variations {

// What is known of a row after some of its blocks.
struct RunningSoftmax {
  static constexpr int kLanes = 16;

  float maximum = -std::numeric_limits<float>::infinity();
  float weight_sums[kLanes] = {};  // to be added up

  float WeightSum() const;
};

// weights[i] = exp(scale * (scores[i] - row->maximum)), with the maximum of this block and those
// before; they may stand where the scores do, are exact but for float32's rounding, and zero from
// `size` to `padded_size`. What is not a number stays so. `sums`: `width` sums of values weighted
// with the blocks before, brought to the new maximum; not looked at for the first block.
void WeighScores(const float* scores, int64_t size, int64_t padded_size, float scale,
                 RunningSoftmax* row, float* sums, int64_t width, float* weights);
void WeighScores(const float* scores, int64_t size, int64_t padded_size, float scale,
                 RunningSoftmax* row, float* sums, int64_t width, c10::BFloat16* weights);

}  // namespace image_variations
