#include "pipeline/engine/decode_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

constexpr JobId kJob{1};

// Two samples with finished latents, in slots 0 and 1; their seeds are 10 and 11.
class DecodeStage : public ::testing::Test {
 protected:
  DecodeStage() {
    EXPECT_TRUE(runner_.EmbedImage(kJob, {1, 1, {0, 0, 0}}, Preprocessing::kModelCard).ok());
    const PrepareRow slots[] = {{.slot = 0, .seed = 10, .latent_width = 8, .latent_height = 8},
                                {.slot = 1, .seed = 11, .latent_width = 8, .latent_height = 8}};
    EXPECT_TRUE(runner_.PrepareLatents(slots).ok());
    const StepRow rows[] = {{0, kJob, &step_, 1}, {1, kJob, &step_, 1}};
    EXPECT_TRUE(runner_.Denoise(rows, 2).ok());
    runner_.on_call = [this](absl::string_view verb, int) {
      clock_.Advance(absl::Seconds(verb == "DecodeLatents" ? 3 : 2));
    };
  }

  absl::StatusOr<JudgedSamples> Run() {
    const Placement samples[] = {{{kJob, 0}, 0}, {{kJob, 1}, 1}};
    return DecodeAndJudge(samples, runner_, SafetyPolicy(SafetyMode::kRequired), clock_,
                          [this] { ++too_large_; });
  }
  void FailWith(absl::string_view at, absl::Status status) {
    runner_.fault = [at, status](absl::string_view verb, int) {
      return verb == at ? status : absl::OkStatus();
    };
  }

  const SamplerStep step_{};
  SimulatedClock clock_;
  FakeModelRunner runner_;
  int too_large_ = 0;
};

TEST_F(DecodeStage, GivesEachSampleItsVerdictAndTellsTheTimes) {
  runner_.seeds_unsafe = {11};
  const auto judged = Run();
  ASSERT_TRUE(judged.ok()) << judged.status();
  ASSERT_EQ(judged->results.size(), 2);
  EXPECT_FALSE(judged->results[0]->image.blocked());
  EXPECT_TRUE(judged->results[1]->image.blocked());
  EXPECT_EQ(judged->results[0]->similarity, 0.5f);
  EXPECT_EQ(judged->decode_time, absl::Seconds(3));
  EXPECT_EQ(judged->safety_time, absl::Seconds(2));
  EXPECT_EQ(too_large_, 0);
}

TEST_F(DecodeStage, SaysWhenTheVaeHasNoMemoryForSoMany) {
  FailWith("DecodeLatents", absl::ResourceExhaustedError("too large"));
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(too_large_, 1);
}

TEST_F(DecodeStage, OtherErrorsSayNothingOfTheVaesMemory) {
  FailWith("DecodeLatents", absl::InternalError("fails"));
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kInternal);
  FailWith("ScoreImages", absl::ResourceExhaustedError("too large"));
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(too_large_, 0);
}

}  // namespace
}  // namespace image_variations
