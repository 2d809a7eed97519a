#include "pipeline/model/softmax.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "pipeline/model/small_product.h"

namespace image_variations {
namespace {

constexpr float kScale = 0.125f;

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
};

TEST_F(WeighScores, GivesExponentialsAndTheirSumForAnySize) {
  for (const int size : {1, 15, 16, 64, 65, 200}) {
    const std::vector<float> scores = Scores(size);
    const float maximum = *std::max_element(scores.begin(), scores.end());
    std::vector<float> weights(scores.size() + 8, 5.0f);
    RunningSoftmax row;
    image_variations::WeighScores(scores.data(), size, size + 7, kScale, &row, nullptr, 0,
                                  weights.data());
    EXPECT_EQ(row.maximum, maximum);
    double sum = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      const double exponent = double{kScale} * (double{scores[i]} - double{maximum});
      const double expected = std::exp(exponent);
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
  const float first[] = {1, 2}, second[] = {10, 3};
  float weights[2], sums[] = {1, 2, 3};
  RunningSoftmax row;
  image_variations::WeighScores(first, 2, 2, kScale, &row, sums, 3, weights);
  EXPECT_EQ(sums[2], 3) << "the first block has nothing to correct";
  image_variations::WeighScores(second, 2, 2, kScale, &row, sums, 3, weights);
  EXPECT_EQ(row.maximum, 10);
  const float correction = std::exp(kScale * (2 - 10));
  EXPECT_NEAR(sums[0], correction, 1e-6);
  EXPECT_NEAR(sums[2], 3 * correction, 1e-6);
  const float in_all = (std::exp(-kScale) + 1) * correction + 1 + std::exp(kScale * (3 - 10));
  EXPECT_NEAR(row.WeightSum(), in_all, 1e-6);
}

TEST_F(WeighScores, WhatIsNotANumberStaysSo) {
  const float scores[] = {1, std::nanf(""), 3};
  float weights[3];
  RunningSoftmax row;
  image_variations::WeighScores(scores, 3, 3, kScale, &row, nullptr, 0, weights);
  EXPECT_TRUE(std::isnan(weights[1]));
  EXPECT_TRUE(std::isnan(row.WeightSum()));
}

}  // namespace
}  // namespace image_variations
