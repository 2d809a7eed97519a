#include "pipeline/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/engine/fault_injector.h"
#include "pipeline/engine/non_finite.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Keeps all that it hears.
class Recorder final : public JobListener {
 public:
  void OnProgress(const JobProgress& progress) override {
    steps.push_back(progress.steps_done);
    remaining.push_back(progress.predicted_remaining);
  }
  void OnSample(int index, absl::StatusOr<SampleResult> result) override {
    indices.push_back(index);
    statuses.push_back(result.status());
    if (result.ok()) results.push_back(*std::move(result));
  }
  void OnPreview(int index, int step, CheckedImage picture) override {
    previews.emplace_back(index, step, picture.image().width);
  }
  void OnDone(const JobMetrics& heard) override { metrics.push_back(heard); }

  std::vector<int> steps;
  std::vector<absl::Duration> remaining;  // as predicted
  std::vector<int> indices;
  std::vector<absl::Status> statuses;
  std::vector<SampleResult> results;
  std::vector<JobMetrics> metrics;
  std::vector<std::tuple<int, int, int>> previews;  // sample, step, width
};

class EngineTest : public ::testing::Test, public EngineObserver {
 protected:
  EngineTest() { Start({}); }

  void Start(EngineOptions options, ModelInfo info = FakeModelRunner::DefaultInfo()) {
    auto runner = std::make_unique<FakeModelRunner>(std::move(info));
    runner_ = runner.get();
    runner_->on_call = [this](absl::string_view verb, int) {
      clock_.Advance(verb == "Denoise" ? absl::Milliseconds(10) : absl::Milliseconds(1));
    };
    engine_ = std::make_unique<Engine>(std::move(options), std::move(runner), clock_, *this);
  }
  ~EngineTest() override {
    if (engine_) {
      EXPECT_THAT(runner_->breaches, IsEmpty());
    }
  }

  Job MakeJob(uint64_t id, int steps, int samples = 1) {
    auto plan = std::make_shared<SamplerPlan>();
    for (int i = 0; i < steps; ++i) plan->steps.push_back({.timestep = static_cast<float>(i)});
    auto listener = std::make_shared<Recorder>();
    heard_[id] = listener.get();
    return {.id = JobId{id},
            .source = std::make_shared<Image>(Image{1, 1, {7, 0, 0}}),
            .plan = plan,
            .sample_count = samples,
            .seed = 100 * id,
            .latent_width = 8,
            .latent_height = 8,
            .listener = keep_alive_.emplace_back(listener)};
  }

  void RunToTheEnd() {
    for (int ticks = 0; engine_->RunTick(); ++ticks) ASSERT_LT(ticks, 1000);
  }

  void OnSampleEnd(SampleOutcome outcome, int unet_rows) override {
    outcomes_.push_back(outcome);
    rows_of_samples_.push_back(unet_rows);
  }
  void OnTick(const TickReport& tick) override {
    unet_rows_ = tick.unet_rows;
    padded_rows_ = tick.padded_rows;
    batch_key_splits_ += tick.batch_key_splits;
  }
  void OnOutOfMemory(int rows) override { out_of_memory_.push_back(rows); }
  void OnDeviceLost(const absl::Status& why) override { device_lost_.push_back(why); }

  SimulatedClock clock_;
  FakeModelRunner* runner_ = nullptr;
  std::vector<std::shared_ptr<JobListener>> keep_alive_;
  std::map<uint64_t, Recorder*> heard_;
  std::vector<SampleOutcome> outcomes_;
  std::vector<int> rows_of_samples_;
  int unet_rows_ = 0, padded_rows_ = 0;  // of the latest tick
  int batch_key_splits_ = 0;
  std::vector<int> out_of_memory_;
  std::vector<absl::Status> device_lost_;
  std::unique_ptr<Engine> engine_;
};

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

TEST_F(EngineTest, APreviewThatFailsIsLeftOut) {
  Start({.safety = SafetyMode::kOff});
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "PreviewLatents" ? absl::InternalError("planted") : absl::OkStatus();
  };
  Job job = MakeJob(1, 6);
  job.preview_interval_steps = 1;
  ASSERT_TRUE(engine_->Submit(job).ok());
  RunToTheEnd();
  EXPECT_THAT(heard_[1]->previews, IsEmpty());
  EXPECT_THAT(heard_[1]->statuses, ElementsAre(absl::OkStatus()));
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

TEST_F(EngineTest, OneSampleThatIsNotFiniteFailsAlone) {
  runner_->seeds_not_finite = {100};
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  RunToTheEnd();
  ASSERT_THAT(heard_[1]->indices, ElementsAre(0, 1));
  EXPECT_EQ(heard_[1]->statuses[0].GetPayload(kNonFiniteStagePayload), "denoise");
  EXPECT_TRUE(heard_[1]->statuses[1].ok());
}

TEST_F(EngineTest, EachSampleSaysWhatRowsItTookWhateverBecameOfIt) {
  runner_->seeds_not_finite = {100};  // from its second step on
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  RunToTheEnd();
  EXPECT_THAT(outcomes_, ElementsAre(SampleOutcome::kFailed, SampleOutcome::kGenerated));
  EXPECT_THAT(rows_of_samples_, ElementsAre(2 * 2, 2 * 3));
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

TEST_F(EngineTest, OutOfMemorySplitsTheCallAndIsRemembered) {
  runner_->fault = [](absl::string_view verb, int rows) {
    return verb == "Denoise" && rows > 4 ? absl::ResourceExhaustedError("no memory")
                                         : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 4)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->results.size(), 4);
  EXPECT_THAT(out_of_memory_, ElementsAre(8));
}

TEST_F(EngineTest, OutOfMemoryOfOneSampleFailsIt) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "Denoise" ? absl::ResourceExhaustedError("no memory") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->statuses.at(0), absl::ResourceExhaustedError("no memory"));
}

TEST_F(EngineTest, OneSampleThatDoesNotFitAloneLeavesTheCeilingAsItIs) {
  runner_->fault = [failed = false](absl::string_view verb, int) mutable {
    return verb == "Denoise" && !std::exchange(failed, true)
               ? absl::ResourceExhaustedError("no memory")
               : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 1)).ok());
  RunToTheEnd();
  ASSERT_TRUE(engine_->Submit(MakeJob(2, 1, 4)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[2]->metrics.at(0).mean_batch_rows, 8);
}

TEST_F(EngineTest, AFailingEmbeddingFailsItsJobAlone) {
  runner_->fault = [failed = false](absl::string_view verb, int) mutable {
    return verb == "EmbedImage" && !std::exchange(failed, true) ? absl::InternalError("broken")
                                                                : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 20)).ok());  // more samples than a call takes
  ASSERT_TRUE(engine_->Submit(MakeJob(2, 3)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->statuses, std::vector<absl::Status>(20, absl::InternalError("broken")));
  EXPECT_EQ(heard_[1]->metrics.size(), 1);
  EXPECT_EQ(heard_[2]->results.size(), 1);
}

TEST_F(EngineTest, AFailingSafetyCheckShowsNothing) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "ScoreImages" ? absl::InternalError("broken") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 1)).ok());
  RunToTheEnd();
  EXPECT_THAT(heard_[1]->statuses, ElementsAre(absl::InternalError("broken")));
}

TEST_F(EngineTest, ALostDeviceAnswersEverybodyOnceAndRefusesFromThenOn) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "Denoise" ? absl::DataLossError("error 700") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 20)).ok());
  engine_->RunTick();
  ASSERT_TRUE(heard_[1]->metrics.empty());
  EXPECT_EQ(engine_->Submit(MakeJob(2, 1)).code(), absl::StatusCode::kUnavailable);
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->statuses.size(), 20);
  for (const absl::Status& status : heard_[1]->statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("error 700"));
  }
  EXPECT_THAT(device_lost_, ElementsAre(absl::DataLossError("error 700")));
  EXPECT_TRUE(heard_[2]->statuses.empty());
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

TEST_F(EngineTest, ADecodeThatDoesNotFitIsSplitOnceAndRemembered) {
  std::vector<int> decodes;
  runner_->fault = [&](absl::string_view verb, int pictures) {
    if (verb != "DecodeLatents") return absl::OkStatus();
    decodes.push_back(pictures);
    return pictures > 2 ? absl::ResourceExhaustedError("no memory") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 4)).ok());
  RunToTheEnd();
  ASSERT_TRUE(engine_->Submit(MakeJob(2, 3, 4)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->results.size(), 4);
  EXPECT_EQ(heard_[2]->results.size(), 4);
  EXPECT_THAT(decodes, ElementsAre(4, 2, 2, 2, 1, 1));  // one at a time after the last call
  EXPECT_THAT(out_of_memory_, ElementsAre(4));
}

TEST_F(EngineTest, APictureThatIsNotFiniteFailsItsSampleAndIsNotScored) {
  auto runner = std::make_unique<FakeModelRunner>();
  runner_ = runner.get();
  int scored = 0;
  runner_->on_call = [&scored](absl::string_view verb, int) { scored += verb == "ScoreImages"; };
  engine_ =
      std::make_unique<Engine>(EngineOptions{},
                               std::make_unique<FaultInjector>(
                                   std::move(runner), ParseFaults("decode:1=nan").value(), [] {}),
                               clock_, *this);
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 2)).ok());
  RunToTheEnd();
  ASSERT_EQ(heard_[1]->statuses.size(), 1);
  EXPECT_EQ(heard_[1]->statuses[0].GetPayload(kNonFiniteStagePayload), "decode");
  EXPECT_EQ(scored, 0);
}

TEST_F(EngineTest, AnEmbeddingThatIsNotFiniteFailsItsJobWithTheStage) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "EmbedImage" ? NonFiniteError("embed") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  RunToTheEnd();
  ASSERT_EQ(heard_[1]->statuses.size(), 2);
  for (const absl::Status& status : heard_[1]->statuses) {
    EXPECT_EQ(status.GetPayload(kNonFiniteStagePayload), "embed");
  }
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
