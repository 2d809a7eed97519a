#include "pipeline/engine/step_batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/base/status_macros.h"

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
CostModel WideCost() { return {}; }
CostModel NarrowCost() {
  CostModel cost;
  for (const int rows : {1, 2, 4}) cost.unet.Observe(64, rows, absl::Seconds(rows));
  return cost;
}

std::vector<uint64_t> JobIds(const std::vector<Placement>& placements) {
  std::vector<uint64_t> ids;
  for (const Placement& p : placements) ids.push_back(static_cast<uint64_t>(p.sample.job));
  return ids;
}

TEST(StepBatcher, SamplesOfAnyTwoJobsShareACall) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  Job guided = MakeJob(2, 50);
  guided.guidance_scale = 7.5f;
  ASSERT_TRUE(batcher.Enqueue(guided, kNow, {}).ok());
  const Tick tick = batcher.Plan(kNow, WideCost());
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(1, 2));
  EXPECT_EQ(tick.unet_rows, 3);
  EXPECT_THAT(tick.embed, ElementsAre(JobId{1}, JobId{2}));
  EXPECT_EQ(tick.prepare.size(), 2);
}

TEST(StepBatcher, ASampleJoinsAtAnyStep) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, WideCost()).denoise), ElementsAre(1, 2));
}

TEST(StepBatcher, TheEarliestDeadlineRunsFirstAndPreemptsAtTheNextStep) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  batcher.Commit(batcher.Plan(kNow, NarrowCost()), {});
  Job urgent = MakeJob(2, 2);
  urgent.deadline = kNow + absl::Seconds(5);
  ASSERT_TRUE(batcher.Enqueue(urgent, kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(2));
}

TEST(StepBatcher, BatchPriorityYieldsToInteractive) {
  StepBatcher batcher({.max_rows = 8});
  Job batch = MakeJob(1, 3);
  batch.priority = Priority::kBatch;
  ASSERT_TRUE(batcher.Enqueue(batch, kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow + absl::Seconds(1), {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(2));
}

TEST(StepBatcher, BatchPriorityIsNotStarved) {
  StepBatcher batcher({.max_rows = 8, .batch_target = absl::Minutes(30)});
  Job batch = MakeJob(1, 3);
  batch.priority = Priority::kBatch;
  ASSERT_TRUE(batcher.Enqueue(batch, kNow, {}).ok());
  const absl::Time later = kNow + absl::Minutes(29);
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), later, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(later, NarrowCost()).denoise), ElementsAre(1));
}

TEST(StepBatcher, CancelledSampleFreesItsSlotAtNextPlan) {
  StepBatcher batcher({.max_slots = 1, .max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 3), kNow, {}).ok());
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
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  batcher.Cancel(JobId{1}, absl::CancelledError("left"));
  EXPECT_THAT(batcher.Plan(kNow, WideCost()).forget, IsEmpty());
  EXPECT_TRUE(batcher.idle());
}

TEST(StepBatcher, ExpiredJobStopsBeforeItsNextStep) {
  StepBatcher batcher({});
  Job job = MakeJob(1, 3, 2);
  job.deadline = kNow + absl::Seconds(1);
  ASSERT_TRUE(batcher.Enqueue(job, kNow, {}).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  const Tick tick = batcher.Plan(kNow + absl::Seconds(1), WideCost());
  ASSERT_EQ(tick.stopped.size(), 2);
  EXPECT_EQ(tick.stopped[0].why.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(tick.denoise, IsEmpty());
}

TEST(StepBatcher, AFullLineRefusesAndKeepsNothing) {
  StepBatcher batcher({.max_waiting_samples = 3});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 2), kNow, {}).ok());
  EXPECT_EQ(batcher.Enqueue(MakeJob(2, 3, 2), kNow, {}).message(),
            "the line is full: 2 samples wait, limit 3");
  EXPECT_EQ(batcher.waiting_samples(), 2);
  EXPECT_TRUE(batcher.Enqueue(MakeJob(2, 3, 1), kNow, {}).ok());
}

TEST(StepBatcher, OneCallHasOneLatentSize) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3), kNow, {}).ok());
  Job wide = MakeJob(2, 3);
  wide.latent_width = 16;
  ASSERT_TRUE(batcher.Enqueue(wide, kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(3, 3), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, WideCost()).denoise), ElementsAre(1, 3));
}

TEST(StepBatcher, AGuidedSampleRunsEvenWhenOneRowIsEfficient) {
  StepBatcher batcher({.max_rows = 1});
  Job guided = MakeJob(1, 3);
  guided.guidance_scale = 3;
  ASSERT_TRUE(batcher.Enqueue(guided, kNow, {}).ok());
  EXPECT_EQ(batcher.Plan(kNow, NarrowCost()).unet_rows, 2);
}

TEST(StepBatcher, CallsArePaddedToTheNextRowBucket) {
  StepBatcher batcher({.max_rows = 8});
  const CostModel cost{.unet = StepCostModel({2, 4, 8})};
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 3), kNow, cost).ok());
  const Tick tick = batcher.Plan(kNow, cost);
  EXPECT_EQ(tick.unet_rows, 3);
  EXPECT_EQ(tick.padded_rows, 4);
}

TEST(StepBatcher, AfterOutOfMemoryPaddingStaysBelowTheCeilingToo) {
  StepBatcher batcher({.max_rows = 16});
  const CostModel cost{.unet = StepCostModel(RowBuckets(16))};
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 16), kNow, cost).ok());
  batcher.OnUnetOutOfMemory({8, 8}, 11);
  const Tick tick = batcher.Plan(kNow, cost);
  EXPECT_EQ(tick.unet_rows, 4);  // five would run as six
  EXPECT_EQ(tick.padded_rows, 4);
}

TEST(StepBatcher, TheLastStepAndTheDecodeAreOneTick) {
  StepBatcher batcher({});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 2), kNow, {}).ok());
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
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 1, 3), kNow, {}).ok());
  const Tick first = batcher.Plan(kNow, WideCost());
  EXPECT_EQ(first.decode.size(), 2);
  batcher.Commit(first, {});
  EXPECT_EQ(batcher.Plan(kNow, WideCost()).decode.size(), 1);
}

TEST(StepBatcher, AFailedSampleLeavesAndItsSiblingsGoOn) {
  StepBatcher batcher({});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 3, 2), kNow, {}).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {SampleRef{JobId{1}, 0}});
  const Tick tick = batcher.Plan(kNow, WideCost());
  ASSERT_EQ(tick.denoise.size(), 1);
  EXPECT_EQ(tick.denoise[0].sample.index, 1);
  EXPECT_THAT(tick.forget, IsEmpty());
}

TEST(StepBatcher, TheBacklogIsAllOpenWork) {
  StepBatcher batcher({.max_rows = 4});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 5), kNow, {}).ok());
  CostModel cost = NarrowCost();  // one second a row
  cost.decode.Observe(64, absl::Seconds(3));
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost)), 21'000);
  batcher.Commit(batcher.Plan(kNow, cost), {});
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost)), 20'000);
  batcher.Cancel(JobId{1}, absl::CancelledError("left"));
  batcher.Commit(batcher.Plan(kNow, cost), {});
  EXPECT_EQ(absl::ToInt64Milliseconds(batcher.PredictBacklog(cost)), 7'000);
}

TEST(StepBatcher, TheRemainingTimeOfAJobIsThatOfAllBeforeItAndItsPictures) {
  StepBatcher batcher({.max_rows = 4});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 5), kNow, {}).ok());
  CostModel cost = NarrowCost();
  cost.decode.Observe(64, absl::Seconds(3));
  const auto remaining = batcher.PredictRemaining(kNow, cost);
  EXPECT_EQ(absl::ToInt64Milliseconds(remaining.at(JobId{1})), 13'000);
  EXPECT_EQ(absl::ToInt64Milliseconds(remaining.at(JobId{2})), 21'000);
}

TEST(StepBatcher, ARunningSampleHasARemainingTimeHoweverManyMoreUrgentOnesWaitForASlot) {
  StepBatcher batcher({.max_slots = 1});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10), kNow, {}).ok());
  batcher.Commit(batcher.Plan(kNow, WideCost()), {});
  for (uint64_t id = 2; id <= 200; ++id) {
    Job urgent = MakeJob(id, 10);
    urgent.deadline = kNow + absl::Seconds(30);
    ASSERT_TRUE(batcher.Enqueue(urgent, kNow, {}).ok());
  }
  const Tick tick = batcher.Plan(kNow, NarrowCost());
  ASSERT_THAT(JobIds(tick.denoise), ElementsAre(1));
  const auto remaining = batcher.PredictRemaining(kNow, NarrowCost(), tick.denoise);
  EXPECT_TRUE(remaining.contains(JobId{1}));
}

Job Due(Job job, absl::Duration in) {
  job.deadline = kNow + in;
  return job;
}

// One second, and half a second more for each row after the first.
CostModel HalfSharedCost() {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) cost.unet.Observe(64, rows, absl::Seconds(0.5 + 0.5 * rows));
  return cost;
}

TEST(StepBatcher, CompanyThatWouldMakeTheMostUrgentLateWaits) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Seconds(12)), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 10), absl::Seconds(100)), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, HalfSharedCost()).denoise), ElementsAre(1));
}

TEST(StepBatcher, CompanyThatAllCanBearIsTaken) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Seconds(16)), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 10), absl::Seconds(100)), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(3, 10), absl::Seconds(100)), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, HalfSharedCost()).denoise), ElementsAre(1, 2));
}

TEST(StepBatcher, TheAnswersWayToItsCallerIsKeptFree) {
  StepBatcher batcher({.max_rows = 8});
  Job job = Due(MakeJob(1, 10), absl::Seconds(16));
  job.answer_time = absl::Seconds(2);
  ASSERT_TRUE(batcher.Enqueue(job, kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 10), absl::Seconds(100)), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, HalfSharedCost()).denoise), ElementsAre(1));
}

TEST(StepBatcher, WhoCannotBeInTimeAnyMoreComesAfterWhoCan) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Seconds(5)), kNow, {}).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 10), absl::Seconds(11)), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(2));
}

TEST(StepBatcher, WhoCannotBeInTimeTakesRowsThatNobodyElseWants) {
  StepBatcher batcher({.max_rows = 8});
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Seconds(5)), kNow, {}).ok());
  EXPECT_THAT(JobIds(batcher.Plan(kNow, NarrowCost()).denoise), ElementsAre(1));
}

TEST(StepBatcher, ASlowDecodeIsOneATick) {
  StepBatcher batcher({.max_decodes_per_tick = 4});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 1, 3), kNow, {}).ok());
  CostModel cost = NarrowCost();
  cost.decode.Observe(64, absl::Seconds(30));
  const Tick first = batcher.Plan(kNow, cost);
  EXPECT_EQ(first.decode.size(), 1);
}

TEST(StepBatcher, ADecodeWaitsForAMoreUrgentSampleThatWouldBeLate) {
  StepBatcher batcher({.max_rows = 8});
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) cost.unet.Observe(64, rows, absl::Seconds(1));
  cost.decode.Observe(64, absl::Seconds(5));
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Seconds(17)), kNow, cost).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 1), absl::Seconds(100)), kNow, cost).ok());
  const Tick tick = batcher.Plan(kNow, cost);  // 10 steps and a decode take 15 of the 17 seconds
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(1, 2));
  EXPECT_THAT(tick.decode, IsEmpty());
}

TEST(StepBatcher, ADecodeWaitsForAMoreUrgentPictureThatWouldBeLate) {
  StepBatcher batcher({.max_rows = 8});
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) cost.unet.Observe(64, rows, absl::Seconds(10));
  cost.decode.Observe(64, absl::Seconds(3));
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 1), absl::Seconds(15)), kNow, cost).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 1), absl::Seconds(100)), kNow, cost).ok());
  const Tick tick = batcher.Plan(kNow, cost);  // pictures of one tick are answered together
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(1, 2));
  EXPECT_THAT(JobIds(tick.decode), ElementsAre(1));
}

Job Of(const char* caller, Job job) {
  job.caller = caller;
  return job;
}

TEST(StepBatcher, TheFirstJobOfACallerDoesNotWaitForTheLastOfAnother) {
  StepBatcher batcher({});
  const CostModel cost = NarrowCost();
  for (uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(batcher.Enqueue(Of("many", MakeJob(id, 10)), kNow, cost).ok());
  }
  ASSERT_TRUE(batcher.Enqueue(Of("one", MakeJob(6, 10)), kNow + absl::Seconds(1), cost).ok());
  const auto remaining = batcher.PredictRemaining(kNow + absl::Seconds(1), cost);
  EXPECT_LT(remaining.at(JobId{6}), remaining.at(JobId{2}));
}

TEST(StepBatcher, OutOfMemoryLowersTheRowsOfThatSizeAloneAndLooksUpAgain) {
  StepBatcher batcher({.max_rows = 8});
  const auto rows_of = [&](uint64_t id, int width) {
    Job job = MakeJob(id, 1, 8);
    job.latent_width = width;
    IV_CHECK(batcher.Enqueue(job, kNow, {}).ok());
    const Tick tick = batcher.Plan(kNow, WideCost());
    batcher.Cancel(JobId{id}, absl::CancelledError("left"));
    batcher.Commit(tick, {});
    batcher.Commit(batcher.Plan(kNow, WideCost()), {});
    return tick.unet_rows;
  };
  batcher.OnUnetOutOfMemory({8, 8}, 8);
  EXPECT_EQ(rows_of(1, 8), 4);
  EXPECT_EQ(rows_of(2, 16), 8);
  uint64_t id = 2;
  for (int call = 0; call < MemoryCeilings::kFirstPatience; ++call) rows_of(++id, 8);
  EXPECT_EQ(rows_of(++id, 8), 6);
}

TEST(StepBatcher, DecodesThatDidNotFitAreFewerFromThenOnAndLookUpAgain) {
  StepBatcher batcher({.max_decodes_per_tick = 4});
  uint64_t id = 0;
  const auto decodes = [&] {
    IV_CHECK(batcher.Enqueue(MakeJob(++id, 1, 4), kNow, {}).ok());
    const Tick tick = batcher.Plan(kNow, WideCost());
    batcher.Commit(tick, {});
    batcher.Cancel(JobId{id}, absl::CancelledError("left"));
    batcher.Commit(batcher.Plan(kNow, WideCost()), {});
    return tick.decode.size();
  };
  EXPECT_EQ(decodes(), 4);
  batcher.OnVaeOutOfMemory({8, 8}, 4);
  EXPECT_EQ(decodes(), 2);
  for (int call = 0; call < MemoryCeilings::kFirstPatience; ++call) decodes();
  EXPECT_EQ(decodes(), 3);
}

// A call takes a second, whatever its rows.
CostModel EmbeddingCost(absl::Duration embedding) {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8}) cost.unet.Observe(64, rows, absl::Seconds(1));
  cost.embedding.Observe(CostModel::kSourceArea, embedding);
  return cost;
}

TEST(StepBatcher, EmbeddingsBeforeACallTakeNoLongerThanTheCall) {
  StepBatcher batcher({.max_rows = 8});
  const CostModel cost = EmbeddingCost(absl::Milliseconds(400));
  for (uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(batcher.Enqueue(MakeJob(id, 10), kNow, cost).ok());
  }
  const Tick first = batcher.Plan(kNow, cost);
  EXPECT_THAT(first.embed, ElementsAre(JobId{1}, JobId{2}));
  batcher.Commit(first, {});
  const Tick second = batcher.Plan(kNow, cost);
  EXPECT_THAT(second.embed, ElementsAre(JobId{3}, JobId{4}));
  EXPECT_THAT(JobIds(second.denoise), ElementsAre(1, 2, 3, 4));
}

TEST(StepBatcher, ALongEmbeddingIsOneACall) {
  StepBatcher batcher({.max_rows = 8});
  const CostModel cost = EmbeddingCost(absl::Seconds(3));
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10, 3), kNow, cost).ok());
  ASSERT_TRUE(batcher.Enqueue(MakeJob(2, 10), kNow, cost).ok());
  const Tick tick = batcher.Plan(kNow, cost);
  EXPECT_THAT(tick.embed, ElementsAre(JobId{1}));
  EXPECT_THAT(JobIds(tick.denoise), ElementsAre(1, 1, 1));
}

TEST(StepBatcher, AnEmbeddingWaitsForAMoreUrgentSampleThatWouldBeLate) {
  StepBatcher batcher({.max_rows = 8});
  const CostModel cost = EmbeddingCost(absl::Milliseconds(900));
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(1, 10), absl::Milliseconds(11'500)), kNow, cost).ok());
  ASSERT_TRUE(batcher.Enqueue(Due(MakeJob(2, 1), absl::Seconds(100)), kNow, cost).ok());
  // An embedding and 10 steps take 10.9 of the 11.5 seconds.
  EXPECT_THAT(JobIds(batcher.Plan(kNow, cost).denoise), ElementsAre(1));
}

TEST(StepBatcher, SaysWhenRowsStayFreeForSamplesOfAnotherSize) {
  StepBatcher batcher({.max_rows = 4});
  ASSERT_TRUE(batcher.Enqueue(MakeJob(1, 10), kNow, {}).ok());
  EXPECT_FALSE(batcher.Plan(kNow, WideCost()).is_split_by_size);
  Job large = MakeJob(2, 10);
  large.latent_width = 16;
  ASSERT_TRUE(batcher.Enqueue(large, kNow, {}).ok());
  EXPECT_TRUE(batcher.Plan(kNow, WideCost()).is_split_by_size);
  ASSERT_TRUE(batcher.Enqueue(MakeJob(3, 10, 3), kNow, {}).ok());
  EXPECT_FALSE(batcher.Plan(kNow, WideCost()).is_split_by_size);  // there is no row left for it
}

}  // namespace
}  // namespace image_variations
