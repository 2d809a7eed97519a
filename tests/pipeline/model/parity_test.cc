// Every stage of every golden case against diffusers' own numbers. Prints a table and names the
// first stage that is off: those after it follow from it.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "c10/core/InferenceMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/codec.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/preprocessing.h"
#include "pipeline/model/torch_model_runner.h"
#include "tests/support/golden.h"

namespace image_variations {
namespace {

constexpr JobId kJob{1};
constexpr SlotId kSlot = 0;

using Stages = std::map<std::string, std::vector<float>>;

// float32 on one thread: what the goldens were made with, and what tolerances are made for.
absl::StatusOr<std::unique_ptr<ModelRunner>> LoadModel(const std::string& path) {
  ASSIGN_OR_RETURN(const ModelDir dir, ModelDir::Open(path));
  return MakeTorchModelRunner(dir, {.device = "cpu", .dtype = "fp32", .threads = 1});
}

absl::StatusOr<Image> ReadPicture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return DecodeImage(bytes.str(), {});
}

void Append(const at::Tensor& tensor, std::vector<float>* values) {
  const at::Tensor flat = tensor.to(at::kFloat).contiguous();
  const float* first = flat.const_data_ptr<float>();
  values->insert(values->end(), first, first + flat.numel());
}

void Append(const std::vector<float>& more, std::vector<float>* values) {
  values->insert(values->end(), more.begin(), more.end());
}

bool IsBlocked(const Image& image, const SafetyScores& scores) {
  return SafetyPolicy(SafetyMode::kRequired).Judge(image, scores).blocked();
}

// One golden request, sample after sample, through the runner's own verbs.
class GoldenRun {
 public:
  GoldenRun(const GoldenCase& golden, NetworkRunner& runner) : golden_(golden), runner_(runner) {}

  absl::StatusOr<Stages> Run() {
    const c10::InferenceMode inference_mode;
    ASSIGN_OR_RETURN(const Image source, ReadPicture(golden_.source));
    RETURN_IF_ERROR(Embed(source));
    ASSIGN_OR_RETURN(const SamplerPlan plan,
                     MakeSamplerPlan(runner_.info().sampler,
                                     {golden_.sampler, golden_.step_count, golden_.eta}));
    for (int i = 0; i < golden_.sample_count; ++i) {
      RETURN_IF_ERROR(Denoise(plan, golden_.seed + static_cast<uint64_t>(i)));
      RETURN_IF_ERROR(DecodeAndScore());
    }
    return std::move(stages_);
  }

 private:
  absl::Status Embed(const Image& source) {
    const bool is_card = golden_.preprocessing == "model-card";
    const Networks& networks = runner_.networks();
    const at::Tensor pixels = is_card
                                  ? PreprocessAsModelCard(source, networks.image_encoder.image_size,
                                                          networks.preprocessor)
                                  : PreprocessAsClip(source, networks.preprocessor);
    Append(pixels, &stages_["pixel_values"]);
    RETURN_IF_ERROR(runner_.EmbedImage(
        kJob, source, is_card ? Preprocessing::kModelCard : Preprocessing::kClipProcessor));
    Append(runner_.image_embeds(kJob), &stages_["image_embeds"]);
    return absl::OkStatus();
  }

  absl::Status Denoise(const SamplerPlan& plan, uint64_t seed) {
    const int factor = runner_.info().latent_factor;
    const PrepareRow prepare = {.slot = kSlot,
                                .seed = seed,
                                .latent_width = golden_.width / factor,
                                .latent_height = golden_.height / factor,
                                .init_noise_sigma = plan.init_noise_sigma};
    RETURN_IF_ERROR(runner_.PrepareLatents({prepare}));
    Append(runner_.latents(kSlot), &stages_["latents_init"]);
    for (size_t k = 0; k < plan.steps.size(); ++k) {
      const StepRow row = {kSlot, kJob, &plan.steps[k], golden_.guidance_scale};
      const std::string suffix = "." + std::to_string(k);
      Append(runner_.PredictNoise({row}, 2)[0], &stages_["noise_pred" + suffix]);
      RETURN_IF_ERROR(runner_.Denoise({row}, 2).status());
      Append(runner_.latents(kSlot), &stages_["latents" + suffix]);
    }
    Append(runner_.latents(kSlot), &stages_["latents_final"]);
    return absl::OkStatus();
  }

  absl::Status DecodeAndScore() {
    Append(runner_.networks().vae.Forward(runner_.latents(kSlot)), &stages_["decoded"]);
    ASSIGN_OR_RETURN(const auto images, runner_.DecodeLatents({kSlot}));
    const Image& image = images[0].value();
    Append({image.rgb.begin(), image.rgb.end()}, &stages_["picture"]);
    ASSIGN_OR_RETURN(const auto scores, runner_.ScoreImages({{kJob, &image}}));
    Append(scores[0].safety.special_care, &stages_["safety.special_care"]);
    Append(scores[0].safety.concepts, &stages_["safety.concepts"]);
    stages_["safety.flagged"].push_back(IsBlocked(image, scores[0].safety));
    stages_["similarity"].push_back(scores[0].similarity.value_or(NAN));
    return absl::OkStatus();
  }

  const GoldenCase& golden_;
  NetworkRunner& runner_;
  Stages stages_;
};

class ParityTest : public testing::TestWithParam<std::string> {};

TEST_P(ParityTest, EveryStageIsAsCloseToDiffusersAsFloat32Allows) {
  const absl::StatusOr<GoldenCase> golden = ReadGoldenCase(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto runner = LoadModel(golden->model);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto actual = GoldenRun(*golden, dynamic_cast<NetworkRunner&>(**runner)).Run();
  ASSERT_TRUE(actual.ok()) << actual.status();

  std::string first_bad_stage;
  std::printf("%-22s %10s %10s %10s\n", "stage", "max", "mean", "allowed");
  for (const GoldenStage& stage : golden->stages) {
    const auto expected = golden->Values(stage.tensor);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(actual->contains(stage.tensor)) << stage.tensor;
    const Difference difference = Compare(*expected, actual->at(stage.tensor));
    const bool is_bad = difference.max > stage.max_abs_difference;
    std::printf("%-22s %10.2e %10.2e %10.2e%s\n", stage.tensor.c_str(), difference.max,
                difference.mean, stage.max_abs_difference, is_bad ? "  BAD" : "");
    if (is_bad && first_bad_stage.empty()) first_bad_stage = stage.tensor;
  }
  EXPECT_EQ(first_bad_stage, "");
}

std::string CaseName(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename();
  for (char& letter : name) {
    if (letter == '-') letter = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Golden, ParityTest, testing::ValuesIn(ListGoldenCases("tests/golden")),
                         CaseName);

}  // namespace
}  // namespace image_variations
