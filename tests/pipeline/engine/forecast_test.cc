#include "pipeline/engine/forecast.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

constexpr LatentSize kSize{8, 8};

// A call of b rows takes base + per_row * b seconds; a picture takes `decode`.
CostModel Cost(double base, double per_row, double decode = 0) {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) {
    cost.unet.Observe(kSize.area(), rows, absl::Seconds(base + per_row * rows));
  }
  if (decode > 0) cost.decode.Observe(kSize.area(), absl::Seconds(decode));
  return cost;
}

ForecastSample Sample(double place, int steps) {
  return {.place = place, .size = kSize, .steps_left = steps};
}

TEST(Forecast, WhereRowsCostInProportionOneEndsAfterTheOther) {
  const CostModel cost = Cost(0, 1);
  const auto times = Forecast(cost, 8).Play({{Sample(1, 10), Sample(2, 5)}});
  EXPECT_NEAR(times[0].end, 10, 1e-6);
  EXPECT_NEAR(times[1].begin, 10, 1e-6);
  EXPECT_NEAR(times[1].end, 15, 1e-6);
}

TEST(Forecast, WhereRowsAreFreeAllRunTogether) {
  const CostModel cost = Cost(1, 0);
  const auto times = Forecast(cost, 8).Play({{Sample(1, 10), Sample(2, 5)}});
  EXPECT_NEAR(times[0].end, 10, 1e-6);
  EXPECT_NEAR(times[1].end, 5, 1e-6);
}

TEST(Forecast, PicturesTakeTheirTimeFromEverybody) {
  const CostModel cost = Cost(1, 0, 3);
  const auto times = Forecast(cost, 8).Play({{Sample(1, 10), Sample(2, 5)}});
  EXPECT_NEAR(times[1].end, 8, 1e-6);
  EXPECT_NEAR(times[0].end, 16, 1e-6);
}

TEST(Forecast, CompanyThatWouldMakeTheUrgentLateWaits) {
  const CostModel cost = Cost(0.5, 0.5);
  ForecastSample urgent = Sample(1, 10);
  urgent.deadline = 12;
  const auto times = Forecast(cost, 8).Play({{urgent, Sample(2, 10)}});
  // Alone at first; for its last two steps it can bear the other.
  EXPECT_NEAR(times[0].end, 11, 1e-6);
}

TEST(Forecast, WhoIsExpectedJoinsWhenItsTimeHasCome) {
  const CostModel cost = Cost(0, 1);
  ForecastSample late = Sample(1, 2);
  late.arrival = 3;
  const auto times = Forecast(cost, 8).Play({{Sample(5, 10)}}, {{late}});
  EXPECT_NEAR(times[1].end, 5, 1e-6);
  EXPECT_NEAR(times[0].end, 12, 1e-6);
}

TEST(Forecast, TheFarFutureIsWorkInTurn) {
  const CostModel cost = Cost(0, 1);
  const std::vector<ForecastSample> samples(1000, Sample(1, 2));
  EXPECT_NEAR(Forecast(cost, 8).Play(samples).back().end, 2000, 1e-3);
}

}  // namespace
}  // namespace image_variations
