// What the gate, the engine and the batcher promise together under overload. The whole table:
// bin/overload_table.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/server/overload_simulation.h"

namespace image_variations {
namespace {

constexpr uint64_t kSeeds = 21;
constexpr uint64_t kFewSeeds = 6;

struct Goal {
  DeviceProfile device;
  double load;
  double on_time;  // of all offered, in the mean of the seeds
};

class Overload : public ::testing::TestWithParam<Goal> {};

TEST_P(Overload, IsServedInTimeAsFarAsTheDeviceCan) {
  double sum = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const OverloadReport report =
        SimulateOverload({.device = GetParam().device, .load = GetParam().load, .seed = seed});
    sum += report.on_time_share();
    EXPECT_GE(report.admitted_on_time_share(), 0.97) << "seed " << seed;
    if (seed == 1) {
      EXPECT_GE(report.on_time_share(), GetParam().on_time);
    }
  }
  EXPECT_GE(sum / kSeeds, GetParam().on_time);
}

TEST_P(Overload, IsSharedByTwoDevices) {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    const OverloadReport report = SimulateOverload(
        {.device = GetParam().device, .devices = 2, .load = 2 * GetParam().load, .seed = seed});
    EXPECT_GE(report.on_time_share(), GetParam().on_time) << "seed " << seed;
    EXPECT_GE(report.admitted_on_time_share(), 0.97) << "seed " << seed;
  }
}

TEST_P(Overload, RetryAfterThePromisedDelayIsAdmitted) {
  int retries = 0;
  int admitted = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const OverloadReport report = SimulateOverload(
        {.device = GetParam().device, .load = GetParam().load, .seed = seed, .retries = true});
    retries += report.retries;
    admitted += report.retries_admitted;
  }
  EXPECT_GE(admitted, 0.9 * retries);
}

INSTANTIATE_TEST_SUITE_P(Profiles, Overload,
                         ::testing::Values(Goal{kCpu, 0.9, 0.81}, Goal{kCpu, 1.3, 0.67},
                                           Goal{kA100, 0.9, 0.86}, Goal{kA100, 1.3, 0.72},
                                           Goal{kH100, 0.9, 0.96}, Goal{kH100, 1.3, 0.93}));

TEST(OverloadedService, SpendsAtMostTheRunningStepOnWhoLeft) {
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) {
    std::vector<int> wasted;
    for (uint64_t seed = 1; seed <= kFewSeeds; ++seed) {
      const OverloadReport report =
          SimulateOverload({.device = device, .load = 1.3, .seed = seed, .cancel_share = 0.3});
      wasted.insert(wasted.end(), report.wasted_steps.begin(), report.wasted_steps.end());
    }
    ASSERT_GT(wasted.size(), 600u);
    EXPECT_LE(Percentile(wasted, 0.99), 1) << device.name;
    EXPECT_EQ(std::ranges::count(wasted, 0) < std::ssize(wasted), true) << "no call was counted";
  }
}

TEST(OverloadedService, FinishesBatchWorkWithinItsBoundUnderConstantInteractiveLoad) {
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) {
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const OverloadReport report = SimulateOverload({.device = device,
                                                      .load = 0.95,
                                                      .seed = seed,
                                                      .batch_every = absl::Seconds(1000),
                                                      .batch_target = absl::Seconds(1000)});
      ASSERT_GT(report.batch_offered, 10);
      EXPECT_EQ(report.batch_in_bound, report.batch_offered) << device.name << ", seed " << seed;
    }
  }
}

TEST(OverloadedService, PlansEmbeddingsAsItPlansSteps) {
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) {
    for (uint64_t seed = 1; seed <= kFewSeeds; ++seed) {
      const OverloadReport report =
          SimulateOverload({.device = device, .load = 1.0, .seed = seed, .embed_seconds = 3});
      EXPECT_GE(report.admitted_on_time_share(), 0.97) << device.name << ", seed " << seed;
    }
  }
}

TEST(OverloadedService, PlansPicturesAsItPlansSteps) {
  for (uint64_t seed = 1; seed <= kFewSeeds; ++seed) {
    const OverloadReport report =
        SimulateOverload({.device = kA100, .load = 1.0, .seed = seed, .decode_seconds = 5});
    EXPECT_GE(report.admitted_on_time_share(), 0.97) << "seed " << seed;
  }
}

TEST(OverloadedService, RecoversWhenTheDeviceBecomesSlower) {
  for (uint64_t seed = 1; seed <= kFewSeeds; ++seed) {
    const OverloadReport report =
        SimulateOverload({.device = kA100, .load = 0.9, .seed = seed, .mispredicted_by = 2});
    EXPECT_GE(report.admitted_on_time_share(), 0.95) << "seed " << seed;
  }
}

TEST(OverloadedService, RecoversFromSlowerDevicesThoughCallersLeave) {
  for (uint64_t seed = 1; seed <= kFewSeeds; ++seed) {
    const OverloadReport report = SimulateOverload(
        {.device = kA100, .load = 0.9, .seed = seed, .cancel_share = 0.3, .mispredicted_by = 2});
    EXPECT_GE(report.kept_share(), 0.95) << "seed " << seed;
  }
}

}  // namespace
}  // namespace image_variations
