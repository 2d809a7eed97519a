#include "pipeline/engine/step_cost.h"

#include <gtest/gtest.h>

#include <vector>

namespace image_variations {
namespace {

constexpr int64_t kArea = 64 * 64;

StepCostModel Measured(double base_ms, double per_row_ms) {
  StepCostModel cost;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (const int rows : {1, 2, 4, 8}) {
      cost.Observe(kArea, rows, absl::Milliseconds(base_ms + per_row_ms * rows));
    }
  }
  return cost;
}

double Ms(absl::Duration time) { return absl::ToDoubleMilliseconds(time); }

TEST(StepCostModel, FitsBaseAndSlope) {
  const StepCostModel cost = Measured(30, 5);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 1)), 35, 0.01);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 16)), 110, 0.01);
}

TEST(StepCostModel, TakesFewRowsWhereTheyCostInProportion) {
  EXPECT_EQ(Measured(0, 100).EfficientRows(kArea, 16), 1);
  EXPECT_EQ(Measured(5, 100).EfficientRows(kArea, 16), 2);
}

TEST(StepCostModel, TakesAllRowsWhereTheyAreNearlyFree) {
  EXPECT_EQ(Measured(100, 0.1).EfficientRows(kArea, 16), 16);
}

TEST(StepCostModel, StopsWhereMoreRowsGainLessThanThreePercent) {
  const StepCostModel cost = Measured(10, 10);  // per row: 20, 15, 13.3, ... 10.6 at 16, 10.9 at 11
  EXPECT_EQ(cost.EfficientRows(kArea, 16), 11);
}

TEST(StepCostModel, ACallTakesWhatItsRowBucketTakes) {
  StepCostModel cost({1, 2, 4, 8});
  for (const int rows : {1, 2, 3, 5}) {
    cost.Observe(kArea, rows, absl::Milliseconds(20 + 10 * cost.PaddedRows(rows)));
  }
  EXPECT_NEAR(Ms(cost.Predict(kArea, 3)), 60, 0.01);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 5)), 100, 0.01);
  EXPECT_EQ(cost.EfficientRows(kArea, 8), 8);
  EXPECT_EQ(cost.EfficientRows(kArea, 7), 4);  // seven rows take as long as eight
}

TEST(StepCostModel, AllCallsReadAtOnceCostWhatEachIsPredictedToCost) {
  StepCostModel cost({1, 2, 4, 8});
  for (const int rows : {1, 2, 3, 5}) cost.Observe(kArea, rows, absl::Milliseconds(7 + 3 * rows));
  const std::vector<double> seconds = cost.SecondsUpTo(4 * kArea, 9);
  ASSERT_EQ(seconds.size(), 10);
  EXPECT_EQ(seconds[0], 0);
  for (int rows = 1; rows <= 9; ++rows) {
    EXPECT_EQ(seconds[static_cast<size_t>(rows)],
              absl::ToDoubleSeconds(cost.Predict(4 * kArea, rows)));
  }
}

TEST(StepCostModel, TriesWideCallsWhileNothingIsKnownOfTheShape) {
  StepCostModel cost;
  EXPECT_EQ(cost.EfficientRows(kArea, 16), 16);
  EXPECT_EQ(cost.Predict(kArea, 4), absl::ZeroDuration());
  cost.Observe(kArea, 2, absl::Milliseconds(50));
  EXPECT_EQ(cost.EfficientRows(kArea, 16), 16);
}

TEST(StepCostModel, ScalesAnAreaThatWasNeverMeasured) {
  const StepCostModel cost = Measured(30, 5);
  EXPECT_NEAR(Ms(cost.Predict(4 * kArea, 2)), 160, 0.01);
}

TEST(StepCostModel, KeepsTheShapeWhenOnlyOneRowCountIsSeenForLong) {
  StepCostModel cost = Measured(0, 100);
  for (int call = 0; call < 1000; ++call) cost.Observe(kArea, 2, absl::Milliseconds(100));
  EXPECT_NEAR(Ms(cost.Predict(kArea, 2)), 100, 1);
  EXPECT_EQ(cost.EfficientRows(kArea, 16), 1);
}

// A small model on a CPU: while two callers are served, calls have four rows and share the cores
// with the callers' pictures. Calls that are believed to cost in proportion stay narrow for good.
TEST(StepCostModel, WhatTwoCallersCostDoesNotTellThatManyRowsGainNothing) {
  StepCostModel cost = Measured(6, 2);
  cost.KeepShape();
  for (int call = 0; call < 1000; ++call) {
    cost.Observe(kArea, 2, absl::Milliseconds(10));
    cost.Observe(kArea, 4, absl::Milliseconds(20));
  }
  EXPECT_GE(cost.EfficientRows(kArea, 16), 12);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 3)), 15, 1);
}

TEST(StepCostModel, CallsOfManyWidthsTellAnotherShapeThanTheOneKept) {
  StepCostModel cost = Measured(6, 2);
  cost.KeepShape();
  for (int call = 0; call < 400; ++call) {
    const int rows = 1 + call % 16;
    cost.Observe(kArea, rows, absl::Milliseconds(100 + rows));
  }
  EXPECT_NEAR(Ms(cost.Predict(kArea, 1)), 101, 10);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 16)), 116, 10);
}

TEST(StepCostModel, AKeptShapeHasTheScaleOfWhatIsObserved) {
  StepCostModel cost = Measured(6, 2);
  cost.KeepShape();
  for (int call = 0; call < 400; ++call) cost.Observe(kArea, 2, absl::Milliseconds(20));
  EXPECT_NEAR(Ms(cost.Predict(kArea, 2)), 20, 0.1);
  EXPECT_NEAR(Ms(cost.Predict(kArea, 16)), 76, 1);
}

TEST(StepCostModel, AHiccupDoesNotCount) {
  StepCostModel cost = Measured(30, 5);
  cost.Observe(kArea, 4, absl::Seconds(30));
  EXPECT_NEAR(Ms(cost.Predict(kArea, 4)), 50, 0.01);
}

TEST(StepCostModel, TheThirdHiccupInARowIsANewSpeed) {
  StepCostModel cost = Measured(30, 5);
  for (int call = 0; call < 6; ++call) cost.Observe(kArea, 4, absl::Milliseconds(500));
  EXPECT_GT(Ms(cost.Predict(kArea, 4)), 300);
}

TEST(StepCostModel, FollowsADeviceThatBecomesSlower) {
  StepCostModel cost = Measured(30, 5);
  for (int call = 0; call < 300; ++call) {
    const int rows = 1 + call % 8;
    cost.Observe(kArea, rows, absl::Milliseconds(2 * (30 + 5 * rows)));
  }
  EXPECT_NEAR(Ms(cost.Predict(kArea, 4)), 100, 2);
}

}  // namespace
}  // namespace image_variations
