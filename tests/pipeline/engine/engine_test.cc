#include "pipeline/engine/engine.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/pipeline/engine/engine_fixture.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(EngineTest, PreviewsComeEverySoManyStepsButNotAfterTheLast) {
  Start({.safety = SafetyMode::kOff});
  Job job = MakeJob(1, 6, 2);
  job.preview_interval_steps = 2;
  job.preview_max_side = 4;
  ASSERT_TRUE(engine_->Submit(job).ok());
  RunToTheEnd();
  EXPECT_THAT(heard_[1]->previews,
              ::testing::UnorderedElementsAre(std::tuple(0, 2, 4), std::tuple(1, 2, 4),
                                              std::tuple(0, 4, 4), std::tuple(1, 4, 4)));
}

TEST_F(EngineTest, WherePicturesMustBeCheckedThereAreNoPreviews) {
  Job job = MakeJob(1, 6);
  job.preview_interval_steps = 1;
  ASSERT_TRUE(engine_->Submit(job).ok());
  RunToTheEnd();
  EXPECT_THAT(heard_[1]->previews, IsEmpty());
}

TEST_F(EngineTest, AJobRunsToItsPictures) {
  const Job job = MakeJob(1, 3, 2);
  ASSERT_TRUE(engine_->Submit(job).ok());
  RunToTheEnd();
  const Recorder& heard = *heard_[1];
  ASSERT_EQ(heard.results.size(), 2);
  EXPECT_EQ(heard.results[0].image.image(), FakeModelRunner::ExpectedPicture(job, 0));
  EXPECT_EQ(heard.results[1].image.image(), FakeModelRunner::ExpectedPicture(job, 1));
  EXPECT_THAT(heard.steps, ElementsAre(2, 4, 6));
  EXPECT_EQ(heard.metrics.size(), 1);
  EXPECT_EQ(runner_->embedded_jobs(), 0);
}

TEST_F(EngineTest, MetricsSayWhereTheTimeWent) {
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  clock_.Advance(absl::Milliseconds(250));
  RunToTheEnd();
  const JobMetrics& metrics = heard_[1]->metrics.at(0);
  EXPECT_EQ(metrics.queue_time, absl::Milliseconds(250));
  EXPECT_EQ(metrics.embed_time, absl::Milliseconds(1));
  EXPECT_EQ(metrics.denoise_time, absl::Milliseconds(30));
  EXPECT_EQ(metrics.latents_decode_time, absl::Milliseconds(1));
  EXPECT_EQ(metrics.safety_time, absl::Milliseconds(1));
  EXPECT_EQ(metrics.unet_rows, 12);
  EXPECT_EQ(metrics.mean_batch_rows, 4);
}

TEST_F(EngineTest, UnsafePicturesAreBlockedAndTheCallGoesOn) {
  runner_->seeds_unsafe = {101};
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 2, 2)).ok());
  RunToTheEnd();
  ASSERT_EQ(heard_[1]->results.size(), 2);
  EXPECT_FALSE(heard_[1]->results[0].image.blocked());
  EXPECT_TRUE(heard_[1]->results[1].image.blocked());
  EXPECT_THAT(outcomes_, ElementsAre(SampleOutcome::kGenerated, SampleOutcome::kFiltered));
}

TEST_F(EngineTest, CancelStopsAtTheNextStep) {
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 10, 2)).ok());
  engine_->RunTick();
  engine_->Cancel(JobId{1}, absl::CancelledError("left"));
  EXPECT_FALSE(engine_->RunTick());
  EXPECT_THAT(heard_[1]->statuses,
              ElementsAre(absl::CancelledError("left"), absl::CancelledError("left")));
  EXPECT_THAT(heard_[1]->steps, ElementsAre(2));
  EXPECT_EQ(engine_->status().samples_running, 0);
  EXPECT_EQ(runner_->embedded_jobs(), 0);
}

TEST_F(EngineTest, CancelDuringAStepMakesItTheLast) {
  int steps = 0;
  runner_->on_denoise = [&](absl::Span<const StepRow>) {
    if (++steps == 3) engine_->Cancel(JobId{1}, absl::CancelledError("left"));
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 10)).ok());
  RunToTheEnd();
  EXPECT_EQ(steps, 3);
  EXPECT_THAT(heard_[1]->statuses, ElementsAre(absl::CancelledError("left")));
}

TEST_F(EngineTest, WhatRemainsIsPredictedAsItThenTakes) {
  bool is_warm = false;
  runner_->on_call = [&](absl::string_view verb, int) {
    if (verb == "Denoise") clock_.Advance(absl::Milliseconds(10));
    // The small picture of the warm-up has a sixteenth of the area.
    if (verb == "DecodeLatents") clock_.Advance(absl::Milliseconds(is_warm ? 8 : 0.5));
  };
  ASSERT_TRUE(engine_->WarmUp().ok());
  is_warm = true;
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 5)).ok());
  RunToTheEnd();
  std::vector<double> milliseconds;
  for (const absl::Duration remaining : heard_[1]->remaining) {
    milliseconds.push_back(absl::ToDoubleMilliseconds(remaining));
  }
  using ::testing::DoubleNear;
  EXPECT_THAT(milliseconds,
              ElementsAre(DoubleNear(48, 0.1), DoubleNear(38, 0.1), DoubleNear(28, 0.1),
                          DoubleNear(18, 0.1), DoubleNear(8, 0.1)));
}

TEST_F(EngineTest, CancelOfAnUnknownJobIsIgnored) {
  engine_->Cancel(JobId{9}, absl::CancelledError("left"));
  EXPECT_FALSE(engine_->RunTick());
}

TEST_F(EngineTest, DeadlineStopsAtTheNextStep) {
  Job job = MakeJob(1, 10);
  job.deadline = clock_.Now() + absl::Milliseconds(15);
  ASSERT_TRUE(engine_->Submit(job).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->statuses.at(0).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(heard_[1]->steps, ElementsAre(1, 2));
}

TEST_F(EngineTest, AFullLineIsToldToTheListener) {
  Start({.batcher = {.max_waiting_samples = 3}});
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 1, 3)).ok());
  ASSERT_TRUE(engine_->Submit(MakeJob(2, 1, 1)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->results.size(), 3);
  EXPECT_EQ(heard_[2]->statuses.at(0).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(heard_[2]->metrics.size(), 1);
}

TEST_F(EngineTest, ClosingAnswersEverybody) {
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 10, 2)).ok());
  engine_->RunTick();
  ASSERT_TRUE(engine_->Submit(MakeJob(2, 10)).ok());
  engine_.reset();
  EXPECT_EQ(heard_[1]->statuses.size(), 2);
  EXPECT_EQ(heard_[2]->statuses.size(), 1);
  EXPECT_EQ(heard_[2]->statuses[0].code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(heard_[2]->metrics.size(), 1);
}

TEST_F(EngineTest, WarmUpMeasuresTheStepCostAndGivesEverythingBack) {
  runner_->on_call = [this](absl::string_view verb, int rows) {
    if (verb == "Denoise") clock_.Advance(absl::Milliseconds(100 + 10 * rows));
  };
  ASSERT_TRUE(engine_->WarmUp().ok());
  EXPECT_NEAR(absl::ToDoubleMilliseconds(engine_->status().cost.unet.Predict(64, 4)), 140, 1);
  EXPECT_EQ(runner_->embedded_jobs(), 0);
}

TEST_F(EngineTest, WarmUpStopsWideningWhenItsTimeIsSpent) {
  int widest = 0;
  runner_->on_call = [this, &widest](absl::string_view verb, int rows) {
    if (verb != "Denoise") return;
    clock_.Advance(absl::Seconds(2) * rows);
    widest = std::max(widest, rows);
  };
  ASSERT_TRUE(engine_->WarmUp().ok());  // 2 s + 4 s: 8 s more would pass the budget of 5 s
  EXPECT_EQ(widest, 2);
  EXPECT_EQ(engine_->status().cost.unet.EfficientRows(64, 16), 1);
}

TEST_F(EngineTest, WarmUpSaysWhatDoesNotRun) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "DecodeLatents" ? absl::InternalError("no VAE") : absl::OkStatus();
  };
  EXPECT_EQ(engine_->WarmUp(), absl::InternalError("no VAE"));
  EXPECT_EQ(runner_->embedded_jobs(), 0);
}

TEST_F(EngineTest, WakeEndsTheWaitForMail) {
  engine_->Wake();
  engine_->WaitForMail(absl::InfiniteFuture());  // returns
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 1)).ok());
  engine_->WaitForMail(absl::InfiniteFuture());  // returns
  RunToTheEnd();
}

TEST_F(EngineTest, CallsHaveTheRowsOfTheModelsBucketsAndAreReportedSo) {
  ModelInfo info = FakeModelRunner::DefaultInfo();
  info.row_buckets = {1, 2, 4, 8};
  Start({.batcher = {.max_rows = 8}}, info);
  std::vector<int> calls;
  runner_->on_call = [&](absl::string_view verb, int rows) {
    if (verb != "Denoise") return;
    calls.push_back(rows);
    clock_.Advance(absl::Milliseconds(10 * rows));
  };
  Job job = MakeJob(1, 4, 5);
  job.guidance_scale = 1;
  ASSERT_TRUE(engine_->Submit(job).ok());
  engine_->RunTick();
  EXPECT_THAT(calls, ElementsAre(8));
  EXPECT_EQ(unet_rows_, 5);
  EXPECT_EQ(padded_rows_, 8);
  EXPECT_EQ(engine_->status().cost.unet.Predict(8 * 8, 5), absl::Milliseconds(80));
  RunToTheEnd();
}

TEST_F(EngineTest, CountsCallsThatUnlikeSizesHadToShare) {
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 2)).ok());
  Job large = MakeJob(2, 1);
  large.latent_width = 16;
  ASSERT_TRUE(engine_->Submit(large).ok());
  RunToTheEnd();
  EXPECT_EQ(batch_key_splits_, 2);  // the small one's steps, while the large one waits
}

}  // namespace
}  // namespace image_variations
