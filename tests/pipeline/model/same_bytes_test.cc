// "Same bytes, whatever the company": latents of unlike samples that run together, join at
// different ticks and stand at changing positions are, bit for bit, those of each sample alone.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "ATen/ops/equal.h"
#include "gtest/gtest.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/torch_model_runner.h"

namespace image_variations {
namespace {

struct Size {
  int width = 0;
  int height = 0;
};

struct Trial {
  std::string dtype;
  int threads = 1;
};

struct SampleChoice {
  SamplerChoice sampler;
  uint64_t seed = 0;
  float guidance_scale = 3;
  JobId job{1};
  int joins_at = 0;  // tick
};

const std::vector<SampleChoice>& Samples() {
  static const auto& samples = *new std::vector<SampleChoice>{
      {{"pndm", 4}, 1, 3.0f, JobId{1}, 0},     {{"euler", 6}, 2, 1.0f, JobId{2}, 0},
      {{"dpmpp-2m", 5}, 3, 7.5f, JobId{1}, 1}, {{"ddim", 4, 1.0}, 4, 3.0f, JobId{2}, 2},
      {{"pndm", 7}, 5, 1.0f, JobId{1}, 2},     {{"dpmpp-2m-sde", 3}, 6, 2.0f, JobId{2}, 3},
      {{"heun", 3}, 7, 3.0f, JobId{1}, 4},
  };
  return samples;
}

Image Stripes(int period) {
  Image image{48, 48, {}};
  for (int i = 0; i < 3 * 48 * 48; ++i) {
    image.rgb.push_back(static_cast<uint8_t>((i / period) % 2 == 0 ? 30 : 220));
  }
  return image;
}

class SameBytesTest : public testing::TestWithParam<Trial> {
 protected:
  void SetUp() override {
    const ModelDir dir = ModelDir::Open("demo/model").value();
    loaded_ = MakeTorchModelRunner(
                  dir, {.dtype = GetParam().dtype, .threads = GetParam().threads, .max_rows = 2})
                  .value();
    runner_ = dynamic_cast<NetworkRunner*>(loaded_.get());
    ASSERT_TRUE(runner_->EmbedImage(JobId{1}, Stripes(7), Preprocessing::kModelCard).ok());
    ASSERT_TRUE(runner_->EmbedImage(JobId{2}, Stripes(31), Preprocessing::kClipProcessor).ok());
    for (const SampleChoice& sample : Samples()) {
      plans_.push_back(MakeSamplerPlan(runner_->info().sampler, sample.sampler).value());
    }
  }

  void Prepare(size_t i, Size size) {
    ASSERT_TRUE(runner_
                    ->PrepareLatents({{static_cast<SlotId>(i), Samples()[i].seed, size.width,
                                       size.height, plans_[i].init_noise_sigma}})
                    .ok());
  }

  // Sample i's step at a tick; nothing before it joins and after it ends.
  std::optional<StepRow> RowAt(size_t i, int tick) const {
    const int step = tick - Samples()[i].joins_at;
    if (step < 0 || step >= static_cast<int>(plans_[i].steps.size())) return std::nullopt;
    return StepRow{static_cast<SlotId>(i), Samples()[i].job,
                   &plans_[i].steps[static_cast<size_t>(step)], Samples()[i].guidance_scale};
  }

  at::Tensor RunAlone(size_t i, Size size) {
    Prepare(i, size);
    for (int tick = Samples()[i].joins_at; const auto row = RowAt(i, tick); ++tick) {
      EXPECT_TRUE(runner_->Denoise({*row}, 2).ok());
    }
    return runner_->latents(static_cast<SlotId>(i));
  }

  // All samples; whoever runs at a tick shares its call, in an order that turns with the tick.
  std::vector<at::Tensor> RunTogether(Size size) {
    for (int tick = 0; tick < 16; ++tick) {
      std::vector<StepRow> rows;
      for (size_t i = 0; i < Samples().size(); ++i) {
        if (Samples()[i].joins_at == tick) Prepare(i, size);
        if (const auto row = RowAt(i, tick)) rows.push_back(*row);
      }
      if (rows.empty()) continue;
      std::rotate(rows.begin(), rows.begin() + tick % static_cast<int>(rows.size()), rows.end());
      EXPECT_TRUE(runner_->Denoise(rows, 16).ok());
    }
    std::vector<at::Tensor> latents;
    for (size_t i = 0; i < Samples().size(); ++i) {
      latents.push_back(runner_->latents(static_cast<SlotId>(i)));
    }
    return latents;
  }

  std::unique_ptr<ModelRunner> loaded_;
  NetworkRunner* runner_ = nullptr;
  std::vector<SamplerPlan> plans_;
};

TEST_P(SameBytesTest, ASampleIsTheSameAloneAndInAnyCompany) {
  // Latents of 64x64, 72x56 and 68x52 pixels, the last with odd sides at every level.
  for (const Size size : {Size{16, 16}, Size{18, 14}, Size{17, 13}}) {
    const std::vector<at::Tensor> together = RunTogether(size);
    for (size_t i = 0; i < together.size(); ++i) {
      EXPECT_TRUE(at::equal(RunAlone(i, size), together[i]))
          << "sample " << i << ", latents " << size.width << "x" << size.height;
    }
  }
  const auto [tried, split] = runner_->rows().tried_and_split();
  std::printf("%d shapes tried, %d of them split\n", tried, split);
}

std::string TrialName(const testing::TestParamInfo<Trial>& trial) {
  return trial.param.dtype + "_threads_" + std::to_string(trial.param.threads);
}

INSTANTIATE_TEST_SUITE_P(Cpu, SameBytesTest,
                         testing::Values(Trial{"fp32", 1}, Trial{"fp32", 2}, Trial{"fp32", 3},
                                         Trial{"bf16", 1}),
                         TrialName);

}  // namespace
}  // namespace image_variations
