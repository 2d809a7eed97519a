// A preview is close to the picture, seen small.
#include "pipeline/model/latent_preview.h"

#include <cstdlib>
#include <memory>

#include "gtest/gtest.h"
#include "pipeline/image/shrink.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/torch_model_runner.h"

namespace image_variations {
namespace {

Image Stripes() {
  Image image{48, 48, {}};
  for (int i = 0; i < 3 * 48 * 48; ++i) {
    image.rgb.push_back(static_cast<uint8_t>((i / 19) % 2 == 0 ? 30 : 220));
  }
  return image;
}

double MeanDifference(const Image& a, const Image& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(int{a.rgb[i]} - int{b.rgb[i]});
  return static_cast<double>(sum) / static_cast<double>(a.rgb.size());
}

std::unique_ptr<ModelRunner> Load(bool previews) {
  const ModelDir dir = ModelDir::Open("demo/model").value();
  return MakeTorchModelRunner(dir, {.threads = 1, .max_rows = 2, .previews = previews}).value();
}

class LatentPreviewTest : public testing::TestWithParam<const char*> {};

TEST_P(LatentPreviewTest, IsCloseToThePictureBeforeTheLastStep) {
  const auto runner = Load(true);
  ASSERT_TRUE(runner->info().has_previews);
  ASSERT_TRUE(runner->EmbedImage(JobId{1}, Stripes(), Preprocessing::kModelCard).ok());
  const SamplerPlan plan = MakeSamplerPlan(runner->info().sampler, {GetParam(), 12}).value();
  ASSERT_TRUE(runner->PrepareLatents({{0, 7, 16, 16, plan.init_noise_sigma}}).ok());
  double early = 0, late = 0;
  std::vector<Image> previews;
  for (const SamplerStep& step : plan.steps) {
    ASSERT_TRUE(runner->Denoise({{0, JobId{1}, &step, 3}}, 2).ok());
    previews.push_back(runner->PreviewLatents({0}).value()[0]);
  }
  const Image picture = *runner->DecodeLatents({0}).value()[0];
  const Image small = Shrink(picture, 16);
  early = MeanDifference(previews.front(), small);
  late = MeanDifference(previews[previews.size() - 2], small);
  std::printf("mean difference, first and last preview: %.1f, %.1f of 255\n", early, late);
  EXPECT_EQ(previews[0].width, 16);
  EXPECT_LT(late, 25);
  EXPECT_LT(late, early);
}

INSTANTIATE_TEST_SUITE_P(Samplers, LatentPreviewTest, testing::Values("ddim", "euler", "pndm"));

TEST(LatentPreview, IsNotThereUnlessAskedFor) {
  const auto runner = Load(false);
  EXPECT_FALSE(runner->info().has_previews);
  EXPECT_EQ(runner->PreviewLatents({0}).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace image_variations
