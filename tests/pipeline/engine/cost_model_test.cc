#include "pipeline/engine/cost_model.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

double Ms(absl::Duration time) { return absl::ToDoubleMilliseconds(time); }

TEST(StageCost, IsZeroUntilMeasured) { EXPECT_EQ(StageCost().Predict(64), absl::ZeroDuration()); }

TEST(StageCost, ScalesAnAreaThatWasNeverMeasured) {
  StageCost cost;
  cost.Observe(64, absl::Milliseconds(10));
  EXPECT_NEAR(Ms(cost.Predict(64 * 16)), 160, 0.01);
}

TEST(StageCost, AMeasurementReplacesAScaledOne) {
  StageCost cost;
  cost.Observe(64, absl::Milliseconds(10));
  cost.Observe(1024, absl::Milliseconds(300));
  EXPECT_NEAR(Ms(cost.Predict(1024)), 300, 0.01);
}

TEST(StageCost, AHiccupDoesNotCountANewSpeedDoes) {
  StageCost cost;
  cost.Observe(64, absl::Milliseconds(10));
  cost.Observe(64, absl::Milliseconds(1000));
  EXPECT_NEAR(Ms(cost.Predict(64)), 10, 0.01);
  cost.Observe(64, absl::Milliseconds(1000));
  cost.Observe(64, absl::Milliseconds(1000));
  EXPECT_NEAR(Ms(cost.Predict(64)), 1000, 0.01);
}

TEST(StageCost, FollowsSlowly) {
  StageCost cost;
  cost.Observe(64, absl::Milliseconds(10));
  cost.Observe(64, absl::Milliseconds(20));
  EXPECT_NEAR(Ms(cost.Predict(64)), 11, 0.01);
}

}  // namespace
}  // namespace image_variations
