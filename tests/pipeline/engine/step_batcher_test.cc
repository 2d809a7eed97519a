#include "pipeline/engine/step_batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Time kNow = absl::UnixEpoch();

Job MakeJob(uint64_t id, int steps, int samples = 1) {
  auto plan = std::make_shared<SamplerPlan>();
  plan->steps.resize(static_cast<size_t>(steps));
  return {.id = JobId{id},
          .plan = plan,
          .sample_count = samples,
          .guidance_scale = 1,
          .latent_width = 8,
          .latent_height = 8};
}

// Costs under which a call takes `rows` rows.
StepCostModel WideCost() { return {}; }
StepCostModel NarrowCost() {
  StepCostModel cost;
  for (const int rows : {1, 2, 4}) cost.Observe(64, rows, absl::Seconds(rows));
  return cost;
}

std::vector<uint64_t> JobIds(const std::vector<Placement>& placements) {
  std::vector<uint64_t> ids;
  for (const Placement& p : placements) ids.push_back(static_cast<uint64_t>(p.sample.job));
  return ids;
}

TEST(StepBatcher, SamplesOfAnyTwoJobsShareACall) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  Job guided = MakeJob(2, 50);
  guided.guidance_scale = 7.5f;
  ASSERT_TRUE(batcher.Enqueue(guided, kNow).ok());
  const Tick tick = batcher.Plan(kNow, WideCost());
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(1, 2));
  EXPECT_EQ(tick.unet_rows, 3);
  EXPECT_THAT(tick.embed, ElementsAre(JobId{1}, JobId{2}));
  EXPECT_EQ(tick.prepare.size(), 2);
}

TEST(StepBatcher, ASampleJoinsAtAnyStep) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, WideCost()).denoise), ElementsAre(1, 2));
}

TEST(StepBatcher, TheEarliestDeadlineRunsFirstAndPreemptsAtTheNextStep) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  batcher.Commit(batcher.Plan(kNow, NarrowCost()), {});
  Job urgent = MakeJob(2, 2);
  urgent.deadline = kNow + absl::Seconds(5);
  ASSERT_TRUE(batcher.Enqueue(urgent, kNow).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(2));
}

TEST(StepBatcher, BatchPriorityYieldsToInteractive) {
  StepBatcher batcher({.max_rows = 8});
  Job batch = MakeJob(1, 3);
  batch.priority = Priority::kBatch;
  ASSERT_TRUE(batcher.Enqueue(batch, kNow).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow + absl::Seconds(1)).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(2));
}

TEST(StepBatcher, BatchPriorityIsNotStarved) {
  StepBatcher batcher({.max_rows = 8, .batch_target = absl::Minutes(30)});
  Job batch = MakeJob(1, 3);
  batch.priority = Priority::kBatch;
  ASSERT_TRUE(batcher.Enqueue(batch, kNow).ok());
  const absl::Time later = kNow + absl::Minutes(29);
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), later).ok());
  EXPECT_THAT(JobIds(batcher.Plan(later, NarrowCost()).denoise), ElementsAre(1));
}

TEST(StepBatcher, CancelledSampleFreesItsSlotAtNextPlan) {
  StepBatcher batcher({.max_slots = 1, .max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  batcher.Cancel(JobId{1}, absl::CancelledError("left"));
  const Tick tick = batcher.Plan(kNow, WideCost());
  ASSERT_EQ(tick.stopped.size(), 1);
  EXPECT_EQ(tick.stopped[0].why, absl::CancelledError("left"));
  EXPECT_THAT(tick.forget, ElementsAre(JobId{1}));
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(2));
}

TEST(StepBatcher, AJobThatNeverEmbeddedHasNothingToForget) {
  StepBatcher batcher({});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  batcher.Cancel(JobId{1}, absl::CancelledError("left"));
  EXPECT_THAT(batcher.Plan(kNow, WideCost()).forget, IsEmpty());
  EXPECT_TRUE(batcher.idle());
}

TEST(StepBatcher, ExpiredJobStopsBeforeItsNextStep) {
  StepBatcher batcher({});
  Job job = MakeJob(1, 3, 2);
  job.deadline = kNow + absl::Seconds(1);
  ASSERT_TRUE(batcher.Enqueue(job, kNow).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  const Tick tick = batcher.Plan(kNow + absl::Seconds(1), WideCost());
  ASSERT_EQ(tick.stopped.size(), 2);
  EXPECT_EQ(tick.stopped[0].why.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(tick.denoise, IsEmpty());
}

TEST(StepBatcher, AFullLineRefusesAndKeepsNothing) {
  StepBatcher batcher({.max_waiting_samples = 3});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 2), kNow).ok());
  EXPECT_EQ(batcher.Enqueue(MakeJob(2, 3, 2), kNow).message(),
            "the line is full: 2 samples wait, limit 3");
  EXPECT_EQ(batcher.waiting_samples(), 2);
  EXPECT_TRUE(batcher.Enqueue(MakeJob(2, 3, 1), kNow).ok());
}

TEST(StepBatcher, OneCallHasOneLatentSize) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow).ok());
  Job wide = MakeJob(2, 3);
  wide.latent_width = 16;
  ASSERT_TRUE(batcher.Enqueue(wide, kNow).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(3, 3), kNow).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, WideCost()).denoise), ElementsAre(1, 3));
}

TEST(StepBatcher, AGuidedSampleRunsEvenWhenOneRowIsEfficient) {
  StepBatcher batcher({.max_rows = 1});
  Job guided = MakeJob(1, 3);
  guided.guidance_scale = 3;
  ASSERT_TRUE(batcher.Enqueue(guided, kNow).ok());
  EXPECT_EQ(batcher.Plan(kNow, NarrowCost()).unet_rows, 2);
}

TEST(StepBatcher, CallsArePaddedToTheNextAllowedRowCount) {
  StepBatcher batcher({.max_rows = 8, .allowed_rows = {2, 4, 8}});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 3), kNow).ok());
  const Tick tick = batcher.Plan(kNow, WideCost());
  EXPECT_EQ(tick.unet_rows, 3);
  EXPECT_EQ(tick.padded_rows, 4);
}

TEST(StepBatcher, TheLastStepAndTheDecodeAreOneTick) {
  StepBatcher batcher({});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 2), kNow).ok());
  const Tick first = batcher.Plan(kNow, WideCost());
  EXPECT_THAT(first.decode, IsEmpty());
  batcher.Commit(first, {});
  const Tick second = batcher.Plan(kNow, WideCost());
  EXPECT_THAT(JobIds(second.decode), ElementsAre(1));
  batcher.Commit(second, {});
  EXPECT_THAT(batcher.Plan(kNow, WideCost()).forget, ElementsAre(JobId{1}));
  EXPECT_TRUE(batcher.idle());
}

TEST(StepBatcher, DecodesBeyondTheLimitWaitForTheNextTick) {
  StepBatcher batcher({.max_decodes_per_tick = 2});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 1, 3), kNow).ok());
  const Tick first = batcher.Plan(kNow, WideCost());
  EXPECT_EQ(first.decode.size(), 2);
  batcher.Commit(first, {});
  EXPECT_EQ(batcher.Plan(kNow, WideCost()).decode.size(), 1);
}

TEST(StepBatcher, AFailedSampleLeavesAndItsSiblingsGoOn) {
  StepBatcher batcher({});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 2), kNow).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {SampleRef{JobId{1}, 0}});
  const Tick tick = batcher.Plan(kNow, WideCost());
  ASSERT_EQ(tick.denoise.size(), 1);
  EXPECT_EQ(tick.denoise[0].sample.index, 1);
  EXPECT_THAT(tick.forget, IsEmpty());
}

TEST(StepBatcher, TheBacklogOfAJobIsWhatIsNotLessUrgent) {
  StepBatcher batcher({.max_rows = 4});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10), kNow).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 5), kNow).ok());
  const StepCostModel cost = NarrowCost();  // one second a row
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost, JobId{1})), 10'000);
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost)), 15'000);
  batcher.Commit(batcher.Plan(kNow, cost), {});
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost)), 14'000);
}

}  // namespace
}  // namespace image_variations
