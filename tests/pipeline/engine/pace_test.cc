#include "pipeline/engine/pace.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

void Tick(Pace& pace, int ticks, double real_seconds) {
  for (int i = 0; i < ticks; ++i) pace.Observe(absl::Seconds(1), absl::Seconds(real_seconds));
}

TEST(Pace, PredictionsThatComeTrueNeedNoMargin) {
  Pace pace;
  Tick(pace, 800, 1);
  EXPECT_EQ(pace.factor(), 1);
  EXPECT_EQ(pace.margin().On(10), 10);
}

TEST(Pace, WhatTheLoopTakesBetweenCallsIsMultipliedIn) {
  Pace pace;
  Tick(pace, 800, 1.2);
  EXPECT_NEAR(pace.factor(), 1.2, 0.001);
  EXPECT_NEAR(pace.margin().On(10), 10, 0.01);
}

TEST(Pace, AnUnsteadyMachineNeedsAMargin) {
  Pace pace;
  for (int i = 0; i < 100; ++i) Tick(pace, 8, i % 2 == 0 ? 0.95 : 1.05);
  EXPECT_NEAR(pace.factor(), 1, 0.01);
  EXPECT_NEAR(pace.margin().share, 0.1, 0.02);
}

TEST(Pace, UnsteadyTicksNeedTimeThoughTheyEvenOut) {
  Pace pace;
  for (int i = 0; i < 1000; ++i) Tick(pace, 1, i % 2 == 0 ? 0.9 : 1.1);
  EXPECT_NEAR(pace.margin().share, 0, 0.01);
  EXPECT_NEAR(pace.margin().seconds, 0.2, 0.01);
  EXPECT_NEAR(pace.margin().Within(pace.margin().On(7)), 7, 1e-9);
}

TEST(Pace, AHiccupCountsAsThreePredictions) {
  Pace once, thrice;
  Tick(once, 1, 100);
  Tick(once, 7, 1);
  Tick(thrice, 1, 3);
  Tick(thrice, 7, 1);
  EXPECT_EQ(once.factor(), thrice.factor());
}

TEST(Pace, TicksWithoutAPredictionSayNothing) {
  Pace pace;
  for (int i = 0; i < 100; ++i) pace.Observe(absl::ZeroDuration(), absl::Seconds(1));
  EXPECT_EQ(pace.factor(), 1);
}

}  // namespace
}  // namespace image_variations
