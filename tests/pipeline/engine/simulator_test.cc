// Thousands of seeded worlds; see tests/support/simulator.h for what must hold in each.
#include "tests/support/simulator.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

constexpr uint64_t kSeeds = 2500;  // of each kind of world

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
  EXPECT_GT(ended_otherwise, 1000);
}

TEST(Simulator, EveryInvariantHoldsWithDeadlinesAndCancels) { PlayWorlds({}); }

TEST(Simulator, EveryInvariantHoldsWithSeveralLatentSizes) { PlayWorlds({.mixed_sizes = true}); }

TEST(Simulator, EveryInvariantHoldsWithFaults) { PlayWorlds({.jobs = 20, .faults = true}); }

TEST(Simulator, EveryInvariantHoldsWhenTheDeviceIsLost) { PlayWorlds({.device_loss = true}); }

}  // namespace
}  // namespace image_variations
