// What the engine does when the networks fail: for want of memory, with values that are not finite,
// or with their device.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/engine/fault_injector.h"
#include "pipeline/engine/non_finite.h"
#include "tests/pipeline/engine/engine_fixture.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using EngineFaultsTest = EngineTest;

TEST_F(EngineFaultsTest, APreviewThatFailsIsLeftOut) {
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

TEST_F(EngineFaultsTest, OneSampleThatIsNotFiniteFailsAlone) {
  runner_->seeds_not_finite = {100};
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  RunToTheEnd();
  ASSERT_THAT(heard_[1]->indices, ElementsAre(0, 1));
  EXPECT_EQ(heard_[1]->statuses[0].GetPayload(kNonFiniteStagePayload), "denoise");
  EXPECT_TRUE(heard_[1]->statuses[1].ok());
}

TEST_F(EngineFaultsTest, EachSampleSaysWhatRowsItTookWhateverBecameOfIt) {
  runner_->seeds_not_finite = {100};  // from its second step on
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 2)).ok());
  RunToTheEnd();
  EXPECT_THAT(outcomes_, ElementsAre(SampleOutcome::kFailed, SampleOutcome::kGenerated));
  EXPECT_THAT(rows_of_samples_, ElementsAre(2 * 2, 2 * 3));
}

TEST_F(EngineFaultsTest, OutOfMemorySplitsTheCallAndIsRemembered) {
  runner_->fault = [](absl::string_view verb, int rows) {
    return verb == "Denoise" && rows > 4 ? absl::ResourceExhaustedError("no memory")
                                         : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3, 4)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->results.size(), 4);
  EXPECT_THAT(out_of_memory_, ElementsAre(8));
}

TEST_F(EngineFaultsTest, OutOfMemoryOfOneSampleFailsIt) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "Denoise" ? absl::ResourceExhaustedError("no memory") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 3)).ok());
  RunToTheEnd();
  EXPECT_EQ(heard_[1]->statuses.at(0), absl::ResourceExhaustedError("no memory"));
}

TEST_F(EngineFaultsTest, OneSampleThatDoesNotFitAloneLeavesTheCeilingAsItIs) {
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

TEST_F(EngineFaultsTest, AFailingEmbeddingFailsItsJobAlone) {
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

TEST_F(EngineFaultsTest, AFailingSafetyCheckShowsNothing) {
  runner_->fault = [](absl::string_view verb, int) {
    return verb == "ScoreImages" ? absl::InternalError("broken") : absl::OkStatus();
  };
  ASSERT_TRUE(engine_->Submit(MakeJob(1, 1)).ok());
  RunToTheEnd();
  EXPECT_THAT(heard_[1]->statuses, ElementsAre(absl::InternalError("broken")));
}

TEST_F(EngineFaultsTest, ALostDeviceAnswersEverybodyOnceAndRefusesFromThenOn) {
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

TEST_F(EngineFaultsTest, ADecodeThatDoesNotFitIsSplitOnceAndRemembered) {
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

TEST_F(EngineFaultsTest, APictureThatIsNotFiniteFailsItsSampleAndIsNotScored) {
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

TEST_F(EngineFaultsTest, AnEmbeddingThatIsNotFiniteFailsItsJobWithTheStage) {
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

}  // namespace
}  // namespace image_variations
