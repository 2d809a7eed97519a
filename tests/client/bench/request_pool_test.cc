#include "client/bench/request_pool.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;

RequestMix Mixed() {
  return {.pictures = {"a", "b"},
          .sample_counts = {1, 4},
          .step_counts = {10, 25},
          .samplers = {"ddim", "pndm"},
          .guidance_scales = {1.0f, 3.0f},
          .sizes = {{64, 64}, {96, 64}},
          .priorities = {Priority::kInteractive, Priority::kBatch}};
}

bool AreEqual(const VariationRequest& a, const VariationRequest& b) {
  return a.image == b.image && a.sample_count == b.sample_count && a.seed == b.seed &&
         a.step_count == b.step_count && a.sampler == b.sampler &&
         a.guidance_scale == b.guidance_scale && a.width == b.width && a.height == b.height &&
         a.priority == b.priority;
}

TEST(RequestPool, ALongerPoolOfTheSeedBeginsWithTheShorterOne) {
  const auto shorter = DrawRequests(Mixed(), 10, 5);
  const auto longer = DrawRequests(Mixed(), 30, 5);
  ASSERT_EQ(longer.size(), 30u);
  for (size_t i = 0; i < shorter.size(); ++i) EXPECT_TRUE(AreEqual(shorter[i], longer[i])) << i;
}

TEST(RequestPool, EveryValueOccursAndEverySeedIsNew) {
  std::set<std::string> pictures, samplers;
  std::set<int> sample_counts, step_counts, widths;
  std::set<float> guidance_scales;
  std::set<Priority> priorities;
  std::set<int64_t> seeds;
  for (const VariationRequest& request : DrawRequests(Mixed(), 64, 1)) {
    pictures.insert(request.image);
    samplers.insert(request.sampler);
    sample_counts.insert(request.sample_count);
    step_counts.insert(*request.step_count);
    guidance_scales.insert(*request.guidance_scale);
    widths.insert(request.width);
    priorities.insert(request.priority);
    seeds.insert(*request.seed);
    EXPECT_EQ(request.height, 64);
  }
  EXPECT_THAT(pictures, ElementsAre("a", "b"));
  EXPECT_THAT(samplers, ElementsAre("ddim", "pndm"));
  EXPECT_THAT(sample_counts, ElementsAre(1, 4));
  EXPECT_THAT(step_counts, ElementsAre(10, 25));
  EXPECT_THAT(guidance_scales, ElementsAre(1.0f, 3.0f));
  EXPECT_THAT(widths, ElementsAre(64, 96));
  EXPECT_THAT(priorities, ElementsAre(Priority::kInteractive, Priority::kBatch));
  EXPECT_EQ(seeds.size(), 64u);
}

TEST(RequestPool, WhatIsNotListedIsLeftToTheServer) {
  const VariationRequest request = DrawRequests({.pictures = {"a"}}, 1, 1)[0];
  EXPECT_EQ(request.sample_count, 1);
  EXPECT_EQ(request.step_count, std::nullopt);
  EXPECT_EQ(request.guidance_scale, std::nullopt);
  EXPECT_EQ(request.sampler, "");
  EXPECT_EQ(request.width, 0);
  EXPECT_EQ(request.priority, Priority::kUnspecified);
}

TEST(RequestPool, ListingOneThingMoreDoesNotChangeTheOthers) {
  RequestMix mix = Mixed();
  const auto before = DrawRequests(mix, 20, 3);
  mix.samplers.clear();
  const auto after = DrawRequests(mix, 20, 3);
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].image, after[i].image);
    EXPECT_EQ(before[i].step_count, after[i].step_count);
    EXPECT_EQ(before[i].seed, after[i].seed);
  }
}

}  // namespace
}  // namespace image_variations::client
