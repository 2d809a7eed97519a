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

  float shift = -std::numeric_limits<float>::infinity();
  float weight_sums[kLanes] = {};  // to be added up

  float WeightSum() const;
};

// Scores of `rows` rows, `stride` from each other.
struct ScoreBlock {
  float* scores;
  int64_t stride;
  int64_t rows;
  int64_t size;         // of a row
  int64_t padded_size;  // of a row of weights
};

// Sums of values weighted with the blocks before, `stride` from row to row, `width` in each.
struct WeightedSums {
  float* sums;
  int64_t stride;
  int64_t width;
};

// Puts weights into the place of scores, from where a row begins: 2^(factor * score - shift), with
// the largest factor * score of this block of the row and those before as its shift; zero from
// `size` to `padded_size`. Exact but for float32's rounding, of the largest factor * score too,
// which is the same for all weights of a row. What is not a number stays so. `softmax` is told, and
// `sums` brought to the new shift; they are not looked at for the first block. T: float or
// c10::BFloat16.
template <typename T>
void WeighScores(const ScoreBlock& block, float factor, RunningSoftmax* softmax,
                 const WeightedSums& sums);

}  // namespace image_variations
