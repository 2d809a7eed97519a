#include "pipeline/engine/fault_injector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/engine/non_finite.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr JobId kJob{1};
const Image kSource{1, 1, {0, 0, 0}};
const SamplerStep kStep{};

FaultInjector Injector(
    absl::string_view spec, std::function<void()> hang = [] {}) {
  return {std::make_unique<FakeModelRunner>(), ParseFaults(spec).value(), std::move(hang)};
}

absl::Status Embed(ModelRunner& runner, JobId job = kJob) {
  return runner.EmbedImage(job, kSource, Preprocessing::kModelCard);
}

absl::StatusOr<std::vector<bool>> DenoiseTwo(ModelRunner& runner, JobId job = kJob) {
  const PrepareRow slots[] = {{.slot = 0, .latent_width = 8, .latent_height = 8},
                              {.slot = 1, .latent_width = 8, .latent_height = 8}};
  if (const absl::Status status = runner.PrepareLatents(slots); !status.ok()) return status;
  const StepRow rows[] = {{0, job, &kStep, 1}, {1, job, &kStep, 1}};
  return runner.Denoise(rows, 2);
}

TEST(ParseFaults, ReadsStageCallAndKind) {
  EXPECT_THAT(*ParseFaults("denoise:3=oom,decode:1=nan"),
              ElementsAre(Fault{"denoise", 3, FaultKind::kOutOfMemory},
                          Fault{"decode", 1, FaultKind::kNotFinite}));
  EXPECT_THAT(*ParseFaults("1/denoise:3=oom"),
              ElementsAre(Fault{"denoise", 3, FaultKind::kOutOfMemory, 0, /*engine=*/1}));
  EXPECT_TRUE(ParseFaults("")->empty());
}

TEST(ParseFaults, QuotesWhatItDoesNotKnow) {
  for (const char* bad : {"unet:1=oom", "denoise:0=oom", "denoise=oom", "denoise:1=boom",
                          "denoise:1", "x/denoise:1=oom", "prepare:1=nan", "denoise:x=oom"}) {
    const absl::Status status = ParseFaults(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad));
  }
}

TEST(FaultInjector, FailsTheCallThatItWasToldTo) {
  FaultInjector runner = Injector("denoise:2=oom,denoise:3=lost,embed:2=fail");
  EXPECT_TRUE(Embed(runner).ok());
  EXPECT_TRUE(DenoiseTwo(runner).ok());
  EXPECT_EQ(DenoiseTwo(runner).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DenoiseTwo(runner).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(DenoiseTwo(runner).ok());
  EXPECT_EQ(Embed(runner, JobId{2}).code(), absl::StatusCode::kInternal);
}

TEST(FaultInjector, LeavesTheWarmUpAlone) {
  FaultInjector runner = Injector("denoise:1=lost");
  EXPECT_TRUE(Embed(runner, JobId{0}).ok());
  EXPECT_TRUE(DenoiseTwo(runner, JobId{0}).ok());
  EXPECT_TRUE(Embed(runner).ok());
  EXPECT_EQ(DenoiseTwo(runner).status().code(), absl::StatusCode::kDataLoss);
}

TEST(FaultInjector, SpoilsTheFirstSampleOfACallAlone) {
  FaultInjector runner = Injector("denoise:1=nan,decode:1=nan");
  EXPECT_TRUE(Embed(runner).ok());
  EXPECT_THAT(*DenoiseTwo(runner), ElementsAre(false, true));
  const auto pictures = runner.DecodeLatents(std::vector<SlotId>{0, 1});
  EXPECT_FALSE(pictures->at(0).has_value());
  EXPECT_TRUE(pictures->at(1).has_value());
}

TEST(FaultInjector, SpoilsAnEmbeddingAndItIsNotKept) {
  FaultInjector runner = Injector("embed:1=nan");
  EXPECT_EQ(Embed(runner).GetPayload(kNonFiniteStagePayload), "embed");
  EXPECT_TRUE(Embed(runner).ok());
}

TEST(FaultInjector, HangsWhereItWasToldTo) {
  int hangs = 0;
  FaultInjector runner = Injector("prepare:1=hang", [&hangs] { ++hangs; });
  EXPECT_TRUE(Embed(runner).ok());
  EXPECT_TRUE(DenoiseTwo(runner).ok());
  EXPECT_EQ(hangs, 1);
}

}  // namespace
}  // namespace image_variations
