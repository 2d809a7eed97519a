#include "pipeline/model/softmax.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "gtest/gtest.h"
#include "pipeline/model/small_product.h"

namespace image_variations {
namespace {

// Of a score, so that 2 to the power of it is exp(score / 8).
constexpr float kFactor = 0.125f * std::numbers::log2e_v<float>;

// From large to small and back, so that the maximum stands in the middle; any number of them.
std::vector<float> Scores(int size) {
  std::vector<float> scores;
  for (int i = 0; i < size; ++i) {
    scores.push_back(900.0f * std::sin(0.37f * static_cast<float>(i)));
  }
  return scores;
}

class WeighScores : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasSmallProduct(c10::kFloat)) GTEST_SKIP() << "no AVX-512 here";
  }

  // Of one row without weighted sums: the weights take the scores' place.
  static void WeighOne(std::vector<float>* scores, int64_t size, int64_t padded_size,
                       RunningSoftmax* row) {
    image_variations::WeighScores<float>({scores->data(), 0, 1, size, padded_size}, kFactor, row,
                                         {nullptr, 0, 0});
  }
};

TEST_F(WeighScores, GivesExponentialsAndTheirSumForAnySize) {
  for (const int size : {1, 15, 16, 64, 65, 200}) {
    const std::vector<float> scores = Scores(size);
    const float maximum = *std::max_element(scores.begin(), scores.end());
    std::vector<float> weights = scores;
    weights.resize(scores.size() + 8, 5.0f);
    RunningSoftmax row;
    WeighOne(&weights, size, size + 7, &row);
    EXPECT_EQ(row.shift, maximum * kFactor);
    double sum = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      const double expected = std::exp2(double{kFactor} * double{scores[i]} - double{row.shift});
      const double exponent = std::log2(expected);
      const double rounding = 1.2e-7 * (2 - exponent);  // of the result and of the exponent
      EXPECT_NEAR(weights[i], expected, rounding * expected + 1e-37) << i << " of " << size;
      sum += expected;
    }
    EXPECT_NEAR(row.WeightSum(), sum, 1e-6 * sum);
    EXPECT_EQ(*std::max_element(weights.end() - 8, weights.end() - 1), 0.0f) << "not padded";
    EXPECT_EQ(weights.back(), 5.0f) << "wrote beyond the padding";
  }
}

TEST_F(WeighScores, BringsWhatWasSummedUpToALargerMaximum) {
  std::vector<float> first = {1, 2}, second = {10, 3};
  float sums[] = {1, 2, 3};
  RunningSoftmax row;
  image_variations::WeighScores<float>({first.data(), 0, 1, 2, 2}, kFactor, &row, {sums, 0, 3});
  EXPECT_EQ(sums[2], 3) << "the first block has nothing to correct";
  image_variations::WeighScores<float>({second.data(), 0, 1, 2, 2}, kFactor, &row, {sums, 0, 3});
  EXPECT_EQ(row.shift, 10 * kFactor);
  const float correction = std::exp(0.125f * (2 - 10));
  EXPECT_NEAR(sums[0], correction, 1e-6);
  EXPECT_NEAR(sums[2], 3 * correction, 1e-6);
  const float in_all = (std::exp(-0.125f) + 1) * correction + 1 + std::exp(0.125f * (3 - 10));
  EXPECT_NEAR(row.WeightSum(), in_all, 1e-6);
}

TEST_F(WeighScores, EachRowHasItsOwnShiftAndSums) {
  constexpr int kStride = 80, kSize = 70;
  const std::vector<float> numbers = Scores(3 * kStride);
  std::vector<float> together = numbers;
  float sums[] = {1, 9, 1, 9, 1, 9};
  RunningSoftmax rows[3];
  rows[0].shift = rows[2].shift = 1;
  rows[1].shift = 1000;
  image_variations::WeighScores<float>({together.data(), kStride, 3, kSize, kSize}, kFactor, rows,
                                       {sums, 2, 1});
  for (int r = 0; r < 3; ++r) {
    std::vector<float> alone(numbers.begin() + r * kStride, numbers.begin() + r * kStride + kSize);
    RunningSoftmax row;
    row.shift = r == 1 ? 1000 : 1;
    float sum = 1;
    image_variations::WeighScores<float>({alone.data(), 0, 1, kSize, kSize}, kFactor, &row,
                                         {&sum, 0, 1});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + r * kStride)) << r;
    EXPECT_EQ(rows[r].shift, row.shift);
    EXPECT_EQ(rows[r].WeightSum(), row.WeightSum());
    EXPECT_EQ(sums[2 * r], sum);
    EXPECT_EQ(sums[2 * r + 1], 9) << "wrote beyond the width";
  }
  EXPECT_EQ(sums[2], 1) << "its shift did not change";
  EXPECT_LT(sums[0], 1);
}

TEST_F(WeighScores, BfloatWeightsAreTheSameRounded) {
  if (!HasSmallProduct(c10::kBFloat16)) GTEST_SKIP() << "no bfloat16 here";
  std::vector<float> exact = Scores(200), rounded = exact;
  RunningSoftmax row, rounded_row;
  WeighOne(&exact, 200, 200, &row);
  image_variations::WeighScores<c10::BFloat16>({rounded.data(), 0, 1, 200, 224}, kFactor,
                                               &rounded_row, {nullptr, 0, 0});
  const auto* weights = reinterpret_cast<const c10::BFloat16*>(rounded.data());
  for (size_t i = 0; i < exact.size(); ++i) {
    // Processors take what is below float32's normal numbers for zero here.
    if (exact[i] < 1.2e-38f) continue;
    EXPECT_EQ(weights[i], c10::BFloat16(exact[i])) << i;
  }
  EXPECT_EQ(weights[223], 0.0f) << "not padded";
  EXPECT_EQ(rounded_row.WeightSum(), row.WeightSum());
}

TEST_F(WeighScores, WhatIsNotANumberStaysSo) {
  std::vector<float> scores = {1, std::nanf(""), 3, -std::numeric_limits<float>::infinity()};
  RunningSoftmax row;
  WeighOne(&scores, 4, 4, &row);
  EXPECT_TRUE(std::isnan(scores[1]));
  EXPECT_EQ(scores[3], 0);
  EXPECT_TRUE(std::isnan(row.WeightSum()));
}

}  // namespace
}  // namespace image_variations
