#include "pipeline/model/network_runner.h"

#include <cmath>

#include "ATen/ops/equal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/model/torch_model_runner.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kMaxSlots = 16;
constexpr int kRows = 8;  // what padded_rows is told where it does not matter

absl::StatusOr<std::unique_ptr<ModelRunner>> Load(const std::string& path,
                                                  const std::string& dtype = "fp32",
                                                  int threads = 1) {
  const absl::StatusOr<ModelDir> dir = ModelDir::Open(path);
  if (!dir.ok()) return dir.status();
  return MakeTorchModelRunner(
      *dir,
      {.device = "cpu", .dtype = dtype, .threads = threads, .max_slots = kMaxSlots, .max_rows = 8});
}

Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (const int level : {255 * x / width, 255 * y / height, 128}) {
        image.rgb.push_back(static_cast<uint8_t>(level));
      }
    }
  }
  return image;
}

// The bundled model, loaded once for all tests.
class NetworkRunnerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { loaded_ = Load("demo/model").value().release(); }
  static void TearDownTestSuite() { delete loaded_; }

  void SetUp() override {
    ASSERT_TRUE(runner_.EmbedImage(kJob, Gradient(64, 64), Preprocessing::kModelCard).ok());
    plan_ = MakeSamplerPlan(runner_.info().sampler, {"pndm", 4}).value();
  }
  void TearDown() override { runner_.Forget(kJob); }

  absl::Status Prepare(SlotId slot, uint64_t seed, float sigma = 1) {
    return runner_.PrepareLatents({{slot, seed, 16, 16, sigma}});
  }
  StepRow Step(SlotId slot, float guidance_scale = 3, size_t step = 0) const {
    return {slot, kJob, &plan_.steps[step], guidance_scale};
  }
  at::Tensor LatentsAfterStep(const StepRow& row, int padded_rows = kRows) {
    EXPECT_TRUE(Prepare(row.slot, 1).ok());
    EXPECT_TRUE(runner_.Denoise({row}, padded_rows).ok());
    return runner_.latents(row.slot);
  }

  static constexpr JobId kJob{1};
  static inline ModelRunner* loaded_ = nullptr;
  NetworkRunner& runner_ = dynamic_cast<NetworkRunner&>(*loaded_);
  SamplerPlan plan_;
};

TEST_F(NetworkRunnerTest, DescribesTheBundledModel) {
  const ModelInfo& info = runner_.info();
  EXPECT_EQ(info.model_id, "model");
  EXPECT_EQ(info.device, "cpu");
  EXPECT_EQ(info.dtype, "fp32");
  EXPECT_EQ(info.latent_factor, 4);
  EXPECT_EQ(info.default_width, 64);
  EXPECT_EQ(info.default_height, 64);
  EXPECT_TRUE(info.has_safety_checker);
  EXPECT_TRUE(info.reproducible);
  EXPECT_EQ(info.fingerprint.size(), 16u);
  EXPECT_EQ(info.component_sha256.size(), 4u);
}

TEST_F(NetworkRunnerTest, TheSelfTestLeavesNoJobBehind) { EXPECT_EQ(runner_.embedded_jobs(), 1u); }

TEST_F(NetworkRunnerTest, ForgetFreesTheEmbedding) {
  runner_.Forget(kJob);
  EXPECT_EQ(runner_.embedded_jobs(), 0u);
  runner_.Forget(kJob);
  ASSERT_TRUE(Prepare(0, 1).ok());
  EXPECT_EQ(runner_.Denoise({Step(0)}, kRows).status().code(), absl::StatusCode::kInternal);
}

TEST_F(NetworkRunnerTest, SeedsCountByTheirLow32Bits) {
  ASSERT_TRUE(Prepare(0, 42).ok());
  ASSERT_TRUE(Prepare(1, 42 + (uint64_t{1} << 32)).ok());
  ASSERT_TRUE(Prepare(2, 43).ok());
  EXPECT_TRUE(at::equal(runner_.latents(0), runner_.latents(1)));
  EXPECT_FALSE(at::equal(runner_.latents(0), runner_.latents(2)));
}

TEST_F(NetworkRunnerTest, GuidanceOfOneAndLessIsNone) {
  const at::Tensor at_one = LatentsAfterStep(Step(0, 1));
  EXPECT_TRUE(at::equal(LatentsAfterStep(Step(0, 0.5f)), at_one));
  EXPECT_FALSE(at::equal(LatentsAfterStep(Step(0, 1.5f)), at_one));
}

TEST_F(NetworkRunnerTest, PaddedRowsChangeNothing) {
  const at::Tensor exact = LatentsAfterStep(Step(0), 2);
  for (const int padded_rows : {0, 3, 8}) {
    EXPECT_TRUE(at::equal(LatentsAfterStep(Step(0), padded_rows), exact)) << padded_rows;
  }
}

TEST_F(NetworkRunnerTest, LatentsThatTheUnetHalvesToOnePixelAreDenoised) {
  ASSERT_TRUE(runner_.PrepareLatents({{0, 1, 4, 4}}).ok());
  const auto finite = runner_.Denoise({Step(0)}, kRows);
  ASSERT_TRUE(finite.ok()) << finite.status();
  EXPECT_THAT(*finite, ElementsAre(true));
}

TEST_F(NetworkRunnerTest, LatentsThatAreNotFiniteAreToldForTheirRowAlone) {
  const at::Tensor healthy = LatentsAfterStep(Step(1));
  ASSERT_TRUE(Prepare(0, 0, std::nanf("")).ok());
  ASSERT_TRUE(Prepare(1, 1).ok());
  ASSERT_TRUE(Prepare(2, 2, INFINITY).ok());
  const auto finite = runner_.Denoise({Step(0), Step(1), Step(2)}, kRows);
  ASSERT_TRUE(finite.ok()) << finite.status();
  EXPECT_THAT(*finite, ElementsAre(false, true, false));
  EXPECT_TRUE(at::equal(runner_.latents(1), healthy));
}

TEST_F(NetworkRunnerTest, APictureThatIsNotFiniteIsNone) {
  ASSERT_TRUE(Prepare(0, 0, std::nanf("")).ok());
  ASSERT_TRUE(Prepare(1, 1).ok());
  const auto images = runner_.DecodeLatents({0, 1});
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_FALSE(images->at(0).has_value());
  ASSERT_TRUE(images->at(1).has_value());
  EXPECT_EQ(images->at(1)->width, 64);
  EXPECT_EQ(images->at(1)->rgb.size(), 3u * 64 * 64);
}

TEST_F(NetworkRunnerTest, ACallThatFailsChangesNothing) {
  const at::Tensor expected = LatentsAfterStep(Step(0));
  ASSERT_TRUE(Prepare(0, 1).ok());
  ASSERT_TRUE(runner_.PrepareLatents({{1, 1, 18, 14}}).ok());
  const absl::Status status = runner_.Denoise({Step(0), Step(1)}, kRows).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("several sizes"));
  ASSERT_TRUE(runner_.Denoise({Step(0)}, kRows).ok());
  EXPECT_TRUE(at::equal(runner_.latents(0), expected));
}

TEST_F(NetworkRunnerTest, ASlotThatWasNotPreparedIsAnError) {
  EXPECT_EQ(runner_.Denoise({Step(kMaxSlots - 1)}, kRows).status().code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(runner_.DecodeLatents({kMaxSlots - 1}).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Prepare(kMaxSlots, 1).code(), absl::StatusCode::kInternal);
}

TEST_F(NetworkRunnerTest, ASourceIsMostSimilarToItself) {
  const Image source = Gradient(64, 64);
  Image black = source;
  std::fill(black.rgb.begin(), black.rgb.end(), uint8_t{0});
  const auto scores = runner_.ScoreImages({{kJob, &source}, {kJob, &black}});
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_FLOAT_EQ(scores->at(0).similarity.value(), 1);
  EXPECT_LT(scores->at(1).similarity.value(), 0.99f);
  EXPECT_EQ(scores->at(0).safety.concepts.size(), 17u);
  EXPECT_EQ(scores->at(0).safety.special_care.size(), 3u);
}

TEST_F(NetworkRunnerTest, AnySourceSizeIsEmbedded) {
  for (const auto& [width, height] : {std::pair{1, 1}, {500, 3}, {3, 500}, {1024, 768}}) {
    for (const auto preprocessing : {Preprocessing::kModelCard, Preprocessing::kClipProcessor}) {
      EXPECT_TRUE(runner_.EmbedImage(kJob, Gradient(width, height), preprocessing).ok())
          << width << "x" << height;
    }
  }
}

TEST(TorchModelRunner, NamesTheTensorAndTheFileOfAWeightThatIsNotANumber) {
  const TemporaryFolder folder;
  const auto model = folder.path() / "model";
  std::filesystem::copy("demo/model", model, std::filesystem::copy_options::recursive);
  const auto file = model / "unet" / "diffusion_pytorch_model.safetensors";
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(-2, std::ios::end);
  stream.write("\x00\x7e", 2);  // a half-precision NaN
  stream.close();
  const absl::Status status = Load(model).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(file), HasSubstr("1 with values that are not finite: ")));
}

TEST(TorchModelRunner, RefusesADeviceThatIsNotThere) {
  const ModelDir dir = ModelDir::Open("demo/model").value();
  const absl::Status status = MakeTorchModelRunner(dir, {.device = "cuda:7"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no device cuda:7"));
  EXPECT_EQ(MakeTorchModelRunner(dir, {.device = "tpu"}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeTorchModelRunner(dir, {.dtype = "int8"}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(NetworkRunnerTest, TheFingerprintTellsThreadsAndTypesApart) {
  const auto fingerprint = [](const std::string& dtype, int threads) {
    return Load("demo/model", dtype, threads).value()->info().fingerprint;
  };
  const std::string& first = runner_.info().fingerprint;
  EXPECT_EQ(fingerprint("fp32", 1), first);
  EXPECT_NE(fingerprint("fp32", 3), first);
  EXPECT_NE(fingerprint("bf16", 1), first);
}

}  // namespace
}  // namespace image_variations
