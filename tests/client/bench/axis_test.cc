#include "client/bench/axis.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;

TEST(Axis, LinearTicksAreRoundAndBeginAtZero) {
  EXPECT_THAT(Axis::Linear(37, 0, 100).Ticks(), ElementsAre(0, 10, 20, 30));
  EXPECT_THAT(Axis::Linear(2, 0, 100).Ticks(), ElementsAre(0, 0.5, 1, 1.5, 2));
}

TEST(Axis, LogarithmicTicksAreOneTwoFive) {
  EXPECT_THAT(Axis::Logarithmic(1, 60, 0, 100).Ticks(), ElementsAre(1, 2, 5, 10, 20, 50));
}

TEST(Axis, OverManyDecadesOnlyTheyAreTicks) {
  EXPECT_THAT(Axis::Logarithmic(1, 50'000, 0, 100).Ticks(), ElementsAre(1, 10, 100, 1000, 10'000));
}

TEST(Axis, EqualRatiosAreEquallyFarApartOnALogarithmicAxis) {
  const Axis axis = Axis::Logarithmic(1, 100, 0, 300);
  EXPECT_NEAR(axis.PixelOf(10) - axis.PixelOf(1), axis.PixelOf(100) - axis.PixelOf(10), 1e-9);
}

TEST(Axis, MayRunUpwards) {
  const Axis axis = Axis::Linear(10, 400, 100);
  EXPECT_EQ(axis.PixelOf(0), 400);
  EXPECT_LT(axis.PixelOf(10), axis.PixelOf(5));
  EXPECT_EQ(axis.PixelOf(1000), 100);
}

TEST(Axis, IsLogarithmicOnlyWhereItHasTo) {
  EXPECT_EQ(Axis::Fitting(2, 10, 8, 0, 1).low(), 0);
  EXPECT_GT(Axis::Fitting(1, 10, 8, 0, 1).low(), 0);
}

}  // namespace
}  // namespace image_variations::client
