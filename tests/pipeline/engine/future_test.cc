#include "pipeline/engine/future.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace image_variations {
namespace {

constexpr LatentSize kSizes[] = {{8, 8}, {16, 16}};

CostModel Cost() {
  CostModel cost;
  for (const LatentSize size : kSizes) {
    for (const int rows : {1, 2, 4, 8}) {
      cost.unet.Observe(size.area(), rows,
                        absl::Seconds((1 + 0.4 * rows) * static_cast<double>(size.area()) / 64));
    }
    cost.decode.Observe(size.area(), absl::Seconds(0.3));
  }
  cost.embedding.Observe(CostModel::kSourceArea, absl::Seconds(0.7));
  return cost;
}

TEST(Future, OfAHeadAndTheRestIsThatOfTheWholeLine) {
  const CostModel cost = Cost();
  std::mt19937 random(1);
  const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
  for (int world = 0; world < 100; ++world) {
    Forecast forecast(cost, 8);
    std::vector<ForecastSamples> line, expected;
    for (int i = 0; i < 600; ++i) {
      line.push_back({.place = static_cast<double>(i),
                      .deadline = below(2) == 0 ? 5.0 * i : 1e9,
                      .size = kSizes[below(2)],
                      .steps_left = below(20),
                      .rows = 1 + below(2),
                      .needs_embedding = below(2) == 0,
                      .count = 1 + below(3)});
    }
    size_t near = 0;
    for (int samples = 0; samples < Future::kNearSamples; ++near) {
      samples += line[near].steps_left > 0 ? line[near].count : 0;
    }
    for (int i = 0; i < 5; ++i) {
      expected.push_back(line[static_cast<size_t>(below(600))]);
      expected.back().arrival = 1000.0 * i;
    }
    const std::vector<ForecastTimes> whole = forecast.Play(line, expected);

    Future future(forecast, absl::MakeConstSpan(line).first(near), expected);
    for (size_t i = 0; i < near; ++i) EXPECT_NEAR(future.times()[i].end, whole[i].end, 1e-6);
    for (size_t i = near; i < line.size(); ++i) {
      const ForecastSamples& each = line[i];
      future.RunWork(forecast.times(each.size).SecondsOf(
          int64_t{each.steps_left} * each.rows * each.count, each.count, each.needs_embedding));
      const double end = future.clock();
      EXPECT_NEAR(end, whole[i].end, 1e-6 * end) << "world " << world << ", " << i;
    }
    future.RunExpected();
    for (size_t i = 0; i < expected.size(); ++i) {
      const double end = whole[line.size() + i].end;
      EXPECT_NEAR(future.times()[near + i].end, end, 1e-6 * end) << "world " << world;
    }
  }
}

}  // namespace
}  // namespace image_variations
