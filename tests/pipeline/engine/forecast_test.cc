#include "pipeline/engine/forecast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

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

ForecastSamples Sample(double place, int steps) {
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
  ForecastSamples urgent = Sample(1, 10);
  urgent.deadline = 12;
  const auto times = Forecast(cost, 8).Play({{urgent, Sample(2, 10)}});
  // Alone at first; for its last two steps it can bear the other.
  EXPECT_NEAR(times[0].end, 11, 1e-6);
}

TEST(Forecast, WhoIsExpectedJoinsWhenItsTimeHasCome) {
  const CostModel cost = Cost(0, 1);
  ForecastSamples late = Sample(1, 2);
  late.arrival = 3;
  const auto times = Forecast(cost, 8).Play({{Sample(5, 10)}}, {{late}});
  EXPECT_NEAR(times[1].end, 5, 1e-6);
  EXPECT_NEAR(times[0].end, 12, 1e-6);
}

TEST(Forecast, TheFarFutureIsWorkInTurn) {
  const CostModel cost = Cost(0, 1);
  const std::vector<ForecastSamples> samples(1000, Sample(1, 2));
  EXPECT_NEAR(Forecast(cost, 8).Play(samples).back().end, 2000, 1e-3);
}

// Samples of one request told at once, or one by one.
TEST(Forecast, ManyAreForetoldAsOneByOne) {
  CostModel cost = Cost(1, 0.4, 0.3);
  cost.embedding.Observe(CostModel::kSourceArea, absl::Seconds(0.7));
  std::mt19937 random(1);
  const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
  for (int world = 0; world < 200; ++world) {
    std::vector<ForecastSamples> groups, singles, groups_to_come, singles_to_come;
    double place = 0, arrival = 0;
    const auto add = [&](std::vector<ForecastSamples>& to, std::vector<ForecastSamples>& as) {
      ForecastSamples group = Sample(place += below(5), below(6));
      group.rows = 1 + below(2);
      group.needs_embedding = group.steps_left > 0 && below(2) == 0;
      group.count = 1 + below(world % 2 == 0 ? 3 : 40);
      if (below(2) == 0) group.deadline = place + below(100);
      if (&to == &groups_to_come) group.arrival = arrival += below(20);
      to.push_back(group);
      ForecastSamples one = group;
      one.count = 1;
      for (int i = 0; i < group.count; ++i) {
        as.push_back(one);
        one.needs_embedding = false;
      }
    };
    for (int i = 0; i < 20; ++i) add(groups, singles);
    for (int i = 0; i < 5; ++i) add(groups_to_come, singles_to_come);
    const auto told = Forecast(cost, 8).Play(groups, groups_to_come);
    const auto one_by_one = Forecast(cost, 8).Play(singles, singles_to_come);
    size_t next = 0;
    for (size_t i = 0; i < told.size(); ++i) {
      const bool is_present = i < groups.size();
      const int count = is_present ? groups[i].count : groups_to_come[i - groups.size()].count;
      double end = 0;
      for (int k = 0; k < count; ++k) end = std::max(end, one_by_one[next++].end);
      EXPECT_NEAR(told[i].end, end, 1e-6 * end) << "world " << world << ", group " << i;
    }
    EXPECT_EQ(next, one_by_one.size());
  }
}

}  // namespace
}  // namespace image_variations
