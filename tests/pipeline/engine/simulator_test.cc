// Thousands of seeded worlds; see tests/support/simulator.h for what must hold in each.
#include "tests/support/simulator.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

constexpr uint64_t kSeeds = 1250;  // of each kind of world: 10,000 in all

void PlayWorlds(SimulationOptions options) {
  int generated = 0;
  int ended_otherwise = 0;
  for (options.seed = 1; options.seed <= kSeeds; ++options.seed) {
    const SimulationReport report = Simulate(options);
    ASSERT_EQ(report.breach, std::nullopt) << *report.breach;
    generated += report.samples_generated;
    ended_otherwise += report.samples_ended_otherwise;
  }
  EXPECT_GT(generated, 1000);
  if (!options.flood) {
    EXPECT_GT(ended_otherwise, 1000);
  }
}

TEST(Simulator, EveryInvariantHoldsWithDeadlinesAndCancels) { PlayWorlds({}); }

TEST(Simulator, EveryInvariantHoldsWithSeveralLatentSizes) { PlayWorlds({.mixed_sizes = true}); }

TEST(Simulator, EveryInvariantHoldsWithFaults) { PlayWorlds({.jobs = 20, .faults = true}); }

TEST(Simulator, EveryInvariantHoldsWhenTheDeviceIsLost) { PlayWorlds({.device_loss = true}); }

TEST(Simulator, EveryInvariantHoldsWhereCompanyCostsTime) { PlayWorlds({.costly = true}); }

TEST(Simulator, EveryInvariantHoldsWhereCallsArePadded) {
  PlayWorlds({.jobs = 20, .faults = true, .row_buckets = {1, 2, 3, 8}});
}

TEST(Simulator, EveryInvariantHoldsWhenOneCallerAsksForMuch) {
  PlayWorlds({.jobs = 15, .costly = true, .flood = true});
}

TEST(Simulator, EveryInvariantHoldsWithPreviews) { PlayWorlds({.previews = true}); }

}  // namespace
}  // namespace image_variations
