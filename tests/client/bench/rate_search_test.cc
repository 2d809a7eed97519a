#include "client/bench/rate_search.h"

#include <vector>

#include "client/bench/load_run.h"
#include "client/bench/summary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/bench/virtual_server.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;

TEST(RateSearch, DoublesThenBisects) {
  std::vector<double> probed;
  const auto found = FindHighestValidRate({.first = 1, .precision = 0.1}, [&](double rate) {
    probed.push_back(rate);
    return rate <= 5;
  });
  EXPECT_THAT(probed, ElementsAre(1, 2, 4, 8, 5.66, 4.76, 5.19));
  EXPECT_EQ(*found, 4.76);
}

TEST(RateSearch, FindsAPlantedCapacityFromBelowAndAbove) {
  for (const double first : {0.01, 37.0, 5000.0}) {
    const auto found = FindHighestValidRate({.first = first, .precision = 0.02, .max_probes = 32},
                                            [](double rate) { return rate <= 42; });
    EXPECT_LE(*found, 42) << first;
    EXPECT_GE(*found * 1.021, 42) << first;
  }
}

TEST(RateSearch, NoValidRateIsSaidAndNotMadeUp) {
  const auto found =
      FindHighestValidRate({.first = 8, .max_probes = 4}, [](double) { return false; });
  EXPECT_EQ(found.status(), absl::NotFoundError("no rate down to 1 requests per second is valid"));
}

TEST(RateSearch, NeitherIsALimitThatWasNotReached) {
  const auto found =
      FindHighestValidRate({.first = 1, .max_probes = 4}, [](double) { return true; });
  EXPECT_EQ(found.status(), absl::NotFoundError("every rate up to 8 requests per second is valid"));
}

TEST(RateSearch, AnErrorEndsIt) {
  int probes = 0;
  const auto found = FindHighestValidRate({}, [&](double) -> absl::StatusOr<bool> {
    ++probes;
    return absl::CancelledError("interrupted");
  });
  EXPECT_TRUE(absl::IsCancelled(found.status()));
  EXPECT_EQ(probes, 1);
}

// One worker with 100 ms a request and Poisson arrivals, an M/D/1 line. The tail of its wait falls
// as exp(-x t) with x = load (e^x - 1), t in service times: p99 reaches 1 s at 7.75 a second.
TEST(RateSearch, FindsTheCapacityOfAVirtualServer) {
  const auto found = FindHighestValidRate({.first = 1, .precision = 0.02}, [](double rate) {
    VirtualServer server({});
    const History history =
        RunLoad({.pacer = {.rate = rate, .duration = absl::Seconds(1500), .seed = 1}},
                {{.image = "picture"}}, server);
    return Summarize(history, {.latency = absl::Seconds(1)}).verdict->valid;
  });
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_GT(*found, 7.3);
  EXPECT_LT(*found, 7.9);
}

}  // namespace
}  // namespace image_variations::client
