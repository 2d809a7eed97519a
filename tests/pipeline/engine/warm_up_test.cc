#include "pipeline/engine/warm_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr absl::Duration kTowerRun = absl::Milliseconds(20);
constexpr absl::Duration kDecode = absl::Milliseconds(160);  // of the default size

// Takes time in proportion to rows and area, and notes which UNet calls were made.
class TimedRunner final : public ModelRunner {
 public:
  TimedRunner(int side, absl::Duration default_row, SimulatedClock& clock,
              absl::Duration tower_run = kTowerRun, bool has_one_tower = true)
      : default_row_(default_row), tower_run_(tower_run), clock_(clock) {
    info_.has_one_tower = has_one_tower;
    info_.latent_factor = 8;
    info_.default_width = info_.default_height = side;
  }

  const ModelInfo& info() const override { return info_; }
  absl::Status EmbedImage(JobId, const Image&, Preprocessing preprocessing) override {
    clock_.Advance(tower_run_ * TowerRunsOf(preprocessing));
    return {};
  }
  absl::Status PrepareLatents(absl::Span<const PrepareRow> rows) override {
    side_ = rows[0].latent_width;
    return {};
  }
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow> rows, int) override {
    clock_.Advance(default_row_ * (part() * part() * static_cast<double>(rows.size())));
    calls.emplace_back(side_, rows.size());
    return std::vector<bool>(rows.size(), true);
  }
  absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId> slots) override {
    clock_.Advance(part() * part() * kDecode);
    return std::vector<std::optional<Image>>(slots.size(), Image{1, 1, {0, 0, 0}});
  }
  absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId>) override {
    return std::vector<Image>();
  }
  absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow> rows) override {
    clock_.Advance(tower_run_);
    ++score_calls;
    return std::vector<ImageScores>(rows.size());
  }
  void Forget(JobId) override {}
  void SetTimedCalls(std::vector<TimedCall> timed) { info_.timed_calls = std::move(timed); }

  std::vector<std::pair<int, size_t>> calls;  // latent side and rows
  int score_calls = 0;

 private:
  // Of a side of the default size.
  double part() const {
    return static_cast<double>(side_ * info_.latent_factor) / info_.default_width;
  }

  ModelInfo info_;
  const absl::Duration default_row_, tower_run_;
  SimulatedClock& clock_;
  int side_ = 0;
};

constexpr absl::Duration kBudget = absl::Seconds(5);

TEST(WarmUp, OfAFastModelMeasuresBothSizesAndAllWidths) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Milliseconds(10), clock);
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_THAT(cost.unet.areas(), ElementsAre(32 * 32, 64 * 64));
  EXPECT_THAT(runner.calls, ::testing::Contains(Pair(32, 16)));
  EXPECT_THAT(runner.calls, ::testing::Contains(Pair(64, 16)));
}

TEST(WarmUp, AnEmbeddingCostsWhatTheUsualRequestsTake) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Milliseconds(10), clock);
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_EQ(cost.embedding.Predict(CostModel::kSourceArea), 2 * kTowerRun);
}

TEST(WarmUp, OfADecodeTheVaeIsScaledAndTheTowerIsNot) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Milliseconds(10), clock);
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_EQ(cost.decode.Predict(64 * 64), kDecode + kTowerRun);
}

TEST(WarmUp, ALongLookOfTheOnlyTowerIsNotRepeated) {
  constexpr absl::Duration kLongRun = absl::Milliseconds(900);
  for (const bool has_one_tower : {false, true}) {
    SimulatedClock clock;
    TimedRunner runner(512, absl::Seconds(2.4), clock, kLongRun, has_one_tower);
    CostModel cost;
    ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
    EXPECT_EQ(runner.score_calls, has_one_tower ? 0 : 1);
    EXPECT_EQ(cost.decode.Predict(64 * 64), kDecode + kLongRun);
  }
}

TEST(WarmUp, OfASlowModelScalesFromHalfItsSize) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Seconds(2.4), clock);
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_THAT(runner.calls, ElementsAre(Pair(32, 1), Pair(32, 2)));
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.unet.Predict(64 * 64, 4)), 9.6, 0.1);
}

TEST(WarmUp, DoesNotRepeatLongCallsOfTheSelfTest) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Seconds(2.4), clock);
  runner.SetTimedCalls({{{32, 32}, 1, absl::Seconds(0.6)}, {{32, 32}, 2, absl::Seconds(1.2)}});
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_THAT(runner.calls, ElementsAre());
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.unet.Predict(64 * 64, 4)), 9.6, 0.1);
  EXPECT_EQ(cost.unet.EfficientRows(32 * 32, 16), 1) << "its shape is not kept";
}

TEST(WarmUp, TimesShortCallsItselfWhateverTheSelfTestSays) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Milliseconds(10), clock);
  runner.SetTimedCalls({{{32, 32}, 1, absl::Milliseconds(200)}});
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.unet.Predict(64 * 64, 1)), 0.01, 0.001);
}

TEST(WarmUp, LeavesOutACallThatWouldPassTheBudgetAndScalesFromASmallerOne) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Seconds(5), clock);
  CostModel cost;
  const absl::Time begin = clock.Now();
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_THAT(runner.calls, ElementsAre(Pair(32, 1), Pair(32, 2)));
  EXPECT_LT(clock.Now() - begin, kBudget);
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.unet.Predict(64 * 64, 4)), 20, 0.1);
}

TEST(WarmUp, OfASizeThatCannotBeHalvedMeasuresItWhateverItTakes) {
  SimulatedClock clock;
  TimedRunner runner(64, absl::Seconds(5), clock);
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  EXPECT_THAT(runner.calls, ElementsAre(Pair(8, 1), Pair(8, 2)));
}

TEST(WarmUp, ItsShapeIsKeptWhateverNarrowCallsCost) {
  SimulatedClock clock;
  TimedRunner runner(512, absl::Milliseconds(10), clock);  // each row costs its share
  CostModel cost;
  ASSERT_TRUE(WarmUp(runner, clock, /*max_rows=*/16, kBudget, &cost).ok());
  for (int call = 0; call < 200; ++call) {
    cost.unet.Observe(64 * 64, 1 + call % 2, absl::Milliseconds(20));
  }
  EXPECT_LE(cost.unet.EfficientRows(64 * 64, 16), 6);
}

}  // namespace
}  // namespace image_variations
