#include "client/bench/pacer.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;

std::vector<absl::Duration> TakeAll(Pacer& pacer) {
  std::vector<absl::Duration> due;
  while (const auto next = pacer.next()) {
    due.push_back(*next);
    pacer.Pop();
  }
  return due;
}

std::vector<int64_t> Microseconds(const std::vector<absl::Duration>& times) {
  std::vector<int64_t> result;
  for (const absl::Duration time : times) result.push_back(absl::ToInt64Microseconds(time));
  return result;
}

TEST(Pacer, ArrivalsOfASeedAreTheseOnEveryMachine) {
  Pacer pacer({.rate = 10, .max_requests = 5, .seed = 1});
  EXPECT_THAT(Microseconds(TakeAll(pacer)), ElementsAre(61417, 152330, 318673, 319591, 575188));
}

TEST(Pacer, AnotherSeedHasOtherArrivals) {
  Pacer one({.max_requests = 5, .seed = 1});
  Pacer two({.max_requests = 5, .seed = 2});
  EXPECT_NE(TakeAll(one), TakeAll(two));
}

TEST(Pacer, ADoubledRateHalvesTheSameArrivals) {
  Pacer slow({.rate = 10, .max_requests = 100});
  Pacer fast({.rate = 20, .max_requests = 100});
  const auto slow_due = TakeAll(slow);
  const auto fast_due = TakeAll(fast);
  for (size_t i = 0; i < slow_due.size(); ++i) {
    EXPECT_NEAR(absl::FDivDuration(slow_due[i], fast_due[i]), 2, 1e-6);
  }
}

// Gaps of a Poisson process are exponential: mean 1 / rate, the same standard deviation, and
// exp(-1) of them above the mean.
TEST(Pacer, GapsOfTheOpenLoopAreExponential) {
  constexpr int kCount = 100'000;
  Pacer pacer({.rate = 50, .max_requests = kCount, .seed = 7});
  double sum = 0, squares = 0;
  int above_mean = 0;
  absl::Duration before = absl::ZeroDuration();
  for (const absl::Duration due : TakeAll(pacer)) {
    const double gap = 50 * absl::ToDoubleSeconds(due - before);
    before = due;
    sum += gap;
    squares += gap * gap;
    above_mean += gap > 1 ? 1 : 0;
  }
  const double mean = sum / kCount;
  EXPECT_NEAR(mean, 1, 0.01);
  EXPECT_NEAR(squares / kCount - mean * mean, 1, 0.03);
  EXPECT_NEAR(static_cast<double>(above_mean) / kCount, std::exp(-1), 0.005);
}

TEST(Pacer, NothingIsDueAfterTheDuration) {
  Pacer pacer({.rate = 100, .duration = absl::Seconds(10)});
  const auto due = TakeAll(pacer);
  EXPECT_LT(due.back(), absl::Seconds(10));
  EXPECT_NEAR(static_cast<double>(due.size()), 1000, 100);
}

TEST(Pacer, ACallerOfTheClosedLoopAsksAgainWhenAnswered) {
  Pacer pacer({.scenario = Scenario::kClosedLoop, .concurrency = 2});
  EXPECT_THAT(TakeAll(pacer), ElementsAre(absl::ZeroDuration(), absl::ZeroDuration()));
  EXPECT_EQ(pacer.next(), std::nullopt);
  pacer.OnEnded(absl::Seconds(3));
  EXPECT_EQ(pacer.next(), absl::Seconds(3));
}

TEST(Pacer, TheClosedLoopEndsWithItsDuration) {
  Pacer pacer({.scenario = Scenario::kClosedLoop, .concurrency = 1, .duration = absl::Seconds(10)});
  pacer.Pop();
  pacer.OnEnded(absl::Seconds(10));
  EXPECT_EQ(pacer.next(), std::nullopt);
}

TEST(Pacer, OfflineEverythingIsDueAtOnce) {
  Pacer pacer({.scenario = Scenario::kOffline, .max_requests = 3});
  EXPECT_THAT(Microseconds(TakeAll(pacer)), ElementsAre(0, 0, 0));
}

TEST(Pacer, NothingIsDueOnceItIsStopped) {
  Pacer pacer({.rate = 10});
  pacer.Stop();
  EXPECT_EQ(pacer.next(), std::nullopt);
}

}  // namespace
}  // namespace image_variations::client
