// ParseSamplerConfig.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(ParseSamplerConfig, TakesClassDefaultsForAbsentKeys) {
  const auto config =
      ParseSamplerConfig(R"({"_class_name": "PNDMScheduler", "skip_prk_steps": true})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->default_sampler, "pndm");
  EXPECT_EQ(config->beta_start, 0.0001);
  EXPECT_EQ(config->beta_end, 0.02);
  EXPECT_EQ(config->beta_schedule, BetaSchedule::kLinear);
  EXPECT_EQ(config->steps_offset, 0);
  EXPECT_EQ(config->timestep_spacing, std::nullopt);
  EXPECT_EQ(config->set_alpha_to_one, std::nullopt);
}

TEST(ParseSamplerConfig, NamesTheCheckpointsOwnSampler) {
  const char* const dpm = "DPMSolverMultistepScheduler";
  const struct {
    const char* class_name;
    const char* more;
    const char* sampler;
  } cases[] = {
      {"PNDMScheduler", R"("skip_prk_steps": true)", "pndm"},
      {"DDIMScheduler", R"("clip_sample": false)", "ddim"},
      {"DDPMScheduler", R"("clip_sample": false, "variance_type": "fixed_small")", "ddpm"},
      {"EulerDiscreteScheduler", R"("use_karras_sigmas": true)", "euler"},
      {"EulerAncestralDiscreteScheduler", R"("steps_offset": 1)", "euler-ancestral"},
      {"HeunDiscreteScheduler", R"("clip_sample": false)", "heun"},
      {"LMSDiscreteScheduler", R"("use_karras_sigmas": false)", "lms"},
      {dpm, R"("algorithm_type": "dpmsolver++")", "dpmpp-2m"},
      {dpm, R"("final_sigmas_type": "sigma_min")", "dpmpp-2m"},
      {dpm, R"("use_karras_sigmas": true)", "dpmpp-2m-karras"},
      {dpm, R"("algorithm_type": "sde-dpmsolver++")", "dpmpp-2m-sde"},
      {dpm, R"("algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": true)",
       "dpmpp-2m-sde-karras"},
      {"UniPCMultistepScheduler", R"("solver_type": "bh2", "disable_corrector": [])", "unipc"},
      {"DEISMultistepScheduler", R"("algorithm_type": "deis", "solver_type": "logrho")", "deis"},
      {"LCMScheduler", R"("original_inference_steps": 50)", "lcm"},
  };
  for (const auto& [class_name, more, sampler] : cases) {
    const auto config =
        ParseSamplerConfig(absl::StrCat(R"({"_class_name": ")", class_name, R"(", )", more, "}"));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->default_sampler, sampler);
  }
}

TEST(ParseSamplerConfig, TakesEachClassesOwnBetasForAbsentOnes) {
  EXPECT_EQ(ParseSamplerConfig(R"({"_class_name": "HeunDiscreteScheduler"})")->beta_end, 0.012);
  EXPECT_EQ(ParseSamplerConfig(R"({"_class_name": "LMSDiscreteScheduler"})")->beta_end, 0.02);
  EXPECT_EQ(ParseSamplerConfig(R"({"_class_name": "LCMScheduler"})")->beta_schedule,
            BetaSchedule::kScaledLinear);
}

TEST(ParseSamplerConfig, RefusesOptionsThatDoNotGoTogether) {
  EXPECT_THAT(MessageOf(ParseSamplerConfig(
                            R"({"_class_name": "UniPCMultistepScheduler",
                                "lower_order_final": false})")
                            .status()),
              HasSubstr("lower_order_final"));
  EXPECT_THAT(
      MessageOf(ParseSamplerConfig(R"({"_class_name": "LCMScheduler", "num_train_timesteps": 20})")
                    .status()),
      HasSubstr("original_inference_steps"));
}

TEST(ParseSamplerConfig, ReadsPythonsInfinityAsNull) {
  const auto config = ParseSamplerConfig(
      R"({"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity})");
  EXPECT_TRUE(config.ok()) << config.status();
}

TEST(ParseSamplerConfig, RefusesByKeyWhatIsNotImplemented) {
  const std::pair<const char*, const char*> cases[] = {
      {"thresholding", "true"},
      {"rescale_betas_zero_snr", "true"},
      {"use_karras_sigmas", "1"},
      {"use_exponential_sigmas", "true"},
      {"use_dynamic_shifting", "true"},
      {"clip_sample", "true"},
      {"skip_prk_steps", "false"},
      {"beta_schedule", "\"sigmoid\""},
      {"prediction_type", "\"flow_prediction\""},
      {"timestep_spacing", "\"random\""},
      {"timestep_type", "\"continuous\""},
      {"algorithm_type", "\"dpmsolver\""},
      {"solver_order", "3"},
      {"solver_type", "\"bh1\""},
      {"final_sigmas_type", "\"sigma_max\""},
      {"lower_order_final", "\"no\""},
      {"euler_at_final", "0"},
      {"variance_type", "\"learned\""},
      {"disable_corrector", "[0]"},
      {"predict_x0", "false"},
      {"sigma_min", "0.1"},
      {"original_inference_steps", "0"},
      {"timestep_scaling", "-1"},
      {"num_train_timesteps", "0"},
      {"steps_offset", "-1"},
      {"beta_start", "-0.5"},
      {"beta_end", "1.5"},
      {"trained_betas", "[0.1, 0.2]"},
  };
  for (const auto& [key, value] : cases) {
    std::string text = absl::StrCat(R"({"_class_name": "PNDMScheduler", ")", key, "\": ", value);
    absl::StrAppend(&text,
                    key == std::string("skip_prk_steps") ? "}" : ", \"skip_prk_steps\": true}");
    const absl::Status status = ParseSamplerConfig(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(MessageOf(status), HasSubstr(key == std::string("beta_end") ? "beta" : key));
  }
}

TEST(ParseSamplerConfig, RefusesAnUnknownClassAndListsTheKnown) {
  const absl::Status status =
      ParseSamplerConfig(R"({"_class_name": "KDPM2DiscreteScheduler"})").status();
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("KDPM2DiscreteScheduler"), HasSubstr("PNDMScheduler")));
}

TEST(ParseSamplerConfig, RefusesAbsentKeysWhoseDefaultIsNotImplemented) {
  EXPECT_THAT(MessageOf(ParseSamplerConfig(R"({"_class_name": "PNDMScheduler"})").status()),
              HasSubstr("skip_prk_steps"));
  for (const char* class_name : {"DDIMScheduler", "DDPMScheduler"}) {
    const auto config = ParseSamplerConfig(absl::StrCat(R"({"_class_name": ")", class_name, "\"}"));
    EXPECT_THAT(MessageOf(config.status()), HasSubstr("clip_sample"));
  }
}

TEST(ParseSamplerConfig, TellsAllProblemsAtOnce) {
  const absl::Status status = ParseSamplerConfig(
                                  R"({"_class_name": "DDIMScheduler", "clip_sample": true,
                                      "thresholding": true, "beta_schedule": 3})")
                                  .status();
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("clip_sample"), HasSubstr("thresholding"),
                                       HasSubstr("beta_schedule")));
}

}  // namespace
}  // namespace image_variations
