#include "server/line_future.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "pipeline/engine/future.h"

namespace image_variations {
namespace {

const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);
constexpr double kInfinity = std::numeric_limits<double>::infinity();

CostModel Cost() {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) {
    cost.unet.Observe(64, rows, absl::Milliseconds(30 + 5 * rows));
    cost.unet.Observe(256, rows, absl::Milliseconds(60 + 20 * rows));
  }
  cost.decode.Observe(64, absl::Milliseconds(40));
  cost.embedding.Observe(CostModel::kSourceArea, absl::Milliseconds(20));
  for (int tick = 0; tick < 100; ++tick) {  // now and then slower than predicted: a margin
    cost.pace.Observe(absl::Milliseconds(50), absl::Milliseconds(tick % 16 < 8 ? 50 : 70));
  }
  return cost;
}

class LineFutureTest : public ::testing::Test {
 protected:
  int64_t Below(int64_t limit) {
    return std::uniform_int_distribution<int64_t>(0, limit - 1)(random_);
  }
  double Seconds(double limit) { return std::uniform_real_distribution<double>(0, limit)(random_); }

  RequestShape Shape() {
    const int side = Below(3) == 0 ? 16 : 8;
    return {.samples = static_cast<int>(1 + Below(4)),
            .steps = static_cast<int>(5 + Below(40)),
            .rows = static_cast<int>(1 + Below(2)),
            .size = {side, side}};
  }

  // In order of place; promised are some times about when they end.
  std::vector<LineEntry> Line(size_t size) {
    std::vector<LineEntry> line;
    const double now = absl::ToDoubleSeconds(kNow - absl::UnixEpoch());
    double place = now;
    for (size_t i = 0; i < size; ++i) {
      place += Seconds(1);
      const RequestShape shape = Shape();
      LineEntry entry{
          .place = {place, i}, .deadline = kInfinity, .promised = kInfinity, .shape = shape};
      entry.samples_open = Below(20) == 0 ? 0 : static_cast<int>(1 + Below(shape.samples));
      entry.samples_fresh = static_cast<int>(Below(entry.samples_open + 1));
      entry.begun_steps = static_cast<int>(1 + Below(shape.steps));
      if (Below(3) > 0) entry.promised = now + 0.8 * static_cast<double>(i) + Seconds(60) - 5;
      if (entry.samples_open == 0 && Below(2) == 0) entry.promised = now - 1;  // its answer waits
      line.push_back(entry);
    }
    return line;
  }

  // ... or just not, by milliseconds.
  void PromiseWhatIsJustKept(double slowdown, const CostModel& cost, const Newcomer* newcomer,
                             std::vector<LineEntry>* entries) {
    StandingLine line(*entries, slowdown, Forecast(cost, 8), kNow);
    std::vector<double> ends;
    PlayLine(line, newcomer, {}, &ends);
    for (size_t i = 0; i < ends.size(); ++i) {
      const double end = cost.pace.margin().On(slowdown * ends[i]);
      (*entries)[i].promised = end + Seconds(0.02) - 0.005 - line.TimeUntil(0);
    }
  }

  std::mt19937 random_{7};
};

// Whoever asks for all ends hears of each entry by itself.
TEST_F(LineFutureTest, HearsOfTheSameLateEntriesWhetherOrNotItLooksAtEach) {
  const CostModel cost = Cost();
  ASSERT_GT(cost.pace.margin().share, 0.01);
  ASSERT_GT(cost.pace.margin().seconds, 0.001);
  int late = 0, lost = 0, far_newcomers = 0;
  for (int world = 0; world < 500; ++world) {
    std::vector<LineEntry> entries = Line(static_cast<size_t>(Below(300)));
    const double slowdown = 1 + Seconds(0.5);
    const RequestShape shape = Shape();
    Newcomer newcomer{.shape = shape, .place = Seconds(200)};
    if (Below(4) == 0) newcomer.delay = Seconds(20);
    const Newcomer* const asks = Below(5) == 0 ? nullptr : &newcomer;
    if (world % 2 == 0) PromiseWhatIsJustKept(slowdown, cost, asks, &entries);
    StandingLine line(entries, slowdown, Forecast(cost, 8), kNow);
    std::vector<double> ends;
    const LineFuture each = PlayLine(line, asks, {}, &ends);
    const LineFuture all = PlayLine(line, asks, {});
    ASSERT_EQ(ends.size(), entries.size());
    EXPECT_EQ(all.start, each.start);
    EXPECT_EQ(all.finish, each.finish);
    EXPECT_EQ(all.samples_ahead, each.samples_ahead);
    EXPECT_EQ(all.newcomer_late, each.newcomer_late);
    EXPECT_EQ(all.end, each.end);
    ASSERT_EQ(all.late.size(), each.late.size()) << "world " << world;
    for (size_t i = 0; i < all.late.size(); ++i) {
      EXPECT_EQ(all.late[i].who, each.late[i].who) << "world " << world;
      EXPECT_NEAR(all.late[i].by, each.late[i].by, 1e-9);
      EXPECT_EQ(all.late[i].is_lost, each.late[i].is_lost);
      lost += all.late[i].is_lost ? 1 : 0;
    }
    late += static_cast<int>(all.late.size());
    far_newcomers += all.samples_ahead > Future::kNearSamples ? 1 : 0;
  }
  EXPECT_GT(lost, 1000);
  EXPECT_GT(late, lost + 100);
  EXPECT_GT(far_newcomers, 50);
}

// Ends of those behind the near ones are when all work before them is done, and theirs.
TEST_F(LineFutureTest, RunsTheFarOnesInTurnAroundTheNewcomer) {
  const CostModel cost = Cost();
  const std::vector<LineEntry> entries = Line(200);
  Forecast forecast(cost, 8);
  StandingLine line(entries, 1, forecast, kNow);
  const RequestShape shape{.samples = 2, .steps = 10, .rows = 2, .size = {8, 8}};
  const Newcomer newcomer{.shape = shape, .place = line.TimeUntil(entries[150].place.time) - 1e-3};
  std::vector<double> without, with;
  PlayLine(line, nullptr, {}, &without);
  const LineFuture future = PlayLine(line, &newcomer, {}, &with);
  const double work = forecast.times(shape.size).SecondsOf(shape.unet_rows(), shape.samples, 1);
  int samples_ahead = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool moves = i >= 150 && entries[i].samples_open > 0;
    EXPECT_NEAR(with[i], without[i] + (moves ? work : 0), 1e-9) << i;
    if (i < 150) samples_ahead += entries[i].samples_open;
  }
  EXPECT_EQ(future.samples_ahead, samples_ahead);
  EXPECT_NEAR(future.finish - future.start, work, 1e-9);

  for (size_t i = 121; i < 150; ++i) {
    const LineEntry& entry = entries[i];
    if (entry.samples_open == 0 || entries[i - 1].samples_open == 0) continue;
    const bool is_fresh = entry.samples_fresh == entry.shape.samples;
    EXPECT_NEAR(without[i] - without[i - 1],
                forecast.times(entry.shape.size)
                    .SecondsOf(entry.unet_rows(), entry.samples_open, is_fresh ? 1 : 0),
                1e-9)
        << i;
  }

  const double all = *std::ranges::max_element(without);
  const Newcomer late{.shape = shape, .delay = all - 1};  // behind all who are there
  EXPECT_NEAR(late.delay + PlayLine(line, &late, {}).finish, all + work, 1e-9);
  const RetryPromise comer{.shape = shape, .at = kNow + absl::Seconds(all - 1)};
  EXPECT_NEAR(PlayLine(line, &newcomer, {&comer, 1}).end, all + 2 * work, 1e-9);
  for (size_t i = 120; i < 150; ++i) EXPECT_LE(without[i], future.start + 1e-9);
}

}  // namespace
}  // namespace image_variations
