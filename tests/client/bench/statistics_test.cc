#include "client/bench/statistics.h"

#include <algorithm>
#include <ctime>
#include <numeric>

#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

TEST(Percentile, IsTheNearestRank) {
  std::vector<double> hundred(100);
  std::iota(hundred.begin(), hundred.end(), 1);
  EXPECT_EQ(Percentile(hundred, 50), 50);
  EXPECT_EQ(Percentile(hundred, 90), 90);
  EXPECT_EQ(Percentile(hundred, 99), 99);
  EXPECT_EQ(Percentile(hundred, 99.1), 100);
  EXPECT_EQ(Percentile(hundred, 100), 100);
  EXPECT_EQ(Percentile(hundred, 0.5), 1);
}

TEST(Percentile, IsAlwaysAMeasuredValue) {
  EXPECT_EQ(Percentile(std::vector<double>{1, 10}, 50), 1);
  EXPECT_EQ(Percentile(std::vector<double>{1, 10}, 51), 10);
  EXPECT_EQ(Percentile(std::vector<double>{7}, 99), 7);
}

// scipy.stats.binom.cdf
TEST(BinomialCdf, EqualsScipys) {
  EXPECT_NEAR(BinomialCdf(0, 459, 0.01), 0.009920974201040586, 1e-12);
  EXPECT_NEAR(BinomialCdf(3, 10, 0.5), 0.171875, 1e-12);
  EXPECT_NEAR(BinomialCdf(10, 10, 0.5), 1, 1e-12);
}

// 459 and 662 at 99 %, 44 and 64 at 90 %: the query counts that MLPerf's rules name.
TEST(RequestsNeeded, AreLoadGens) {
  EXPECT_EQ(RequestsNeeded(99, 0), 459);
  EXPECT_EQ(RequestsNeeded(99, 1), 662);
  EXPECT_EQ(RequestsNeeded(90, 0), 44);
  EXPECT_EQ(RequestsNeeded(90, 1), 64);
  EXPECT_EQ(RequestsNeeded(50, 0), 7);
}

// A run asks again after each request that is late.
TEST(RequestsNeeded, AreKnownAtOnceHoweverManyWereLate) {
  const std::clock_t began = std::clock();
  int64_t before = 0;
  for (int64_t late = 0; late < 20'000; late += 20) {
    const int64_t needed = RequestsNeeded(90, late);
    EXPECT_GT(needed, std::max(before, 10 * late));
    before = needed;
  }
  EXPECT_LT(static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC, 10);
  // The normal distribution's 2.3263 deviations: (needed - 10 late) = 2.3263 sqrt(90 late), nearly.
  EXPECT_NEAR(static_cast<double>(RequestsNeeded(90, 20'000)), 203'130, 30);
}

}  // namespace
}  // namespace image_variations::client
