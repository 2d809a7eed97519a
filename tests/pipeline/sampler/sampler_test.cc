#include "pipeline/sampler/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kTrainTimesteps = 1000;

std::vector<float> Timesteps(const SamplerPlan& plan) {
  std::vector<float> timesteps;
  for (const SamplerStep& step : plan.steps) timesteps.push_back(step.timestep);
  return timesteps;
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

absl::Status TryPlan(const SamplerConfig& config, SamplerChoice choice) {
  return MakeSamplerPlan(config, choice).status();
}

TEST(Samplers, AreListedWithTheCheckpointsOwnFirst) {
  std::vector<std::string> names;
  for (const SamplerInfo& info : Samplers()) names.emplace_back(info.name);
  EXPECT_THAT(names, ElementsAre("pndm", "ddim", "euler", "dpmpp-2m"));
}

TEST(Samplers, OnlyDdimHasEta) {
  for (const SamplerInfo& info : Samplers()) EXPECT_EQ(info.has_eta, info.name == "ddim");
}

TEST(MakeSamplerPlan, PndmCallsTheUnetOnceMoreThanItHasSteps) {
  const auto plan = MakeSamplerPlan({}, {.name = "pndm", .num_inference_steps = 5});
  EXPECT_THAT(Timesteps(*plan), ElementsAre(801, 601, 601, 401, 201, 1));
}

TEST(MakeSamplerPlan, PndmDoesOneStepInOneCall) {
  const auto plan = MakeSamplerPlan({}, {.name = "pndm", .num_inference_steps = 1});
  EXPECT_THAT(Timesteps(*plan), ElementsAre(1));
}

TEST(MakeSamplerPlan, PndmRepeatsItsFirstStepFromTheAnchorAndForgetsThatPrediction) {
  const auto plan = MakeSamplerPlan({}, {.name = "pndm", .num_inference_steps = 5});
  EXPECT_TRUE(plan->steps[0].save_anchor);
  EXPECT_FALSE(plan->steps[1].keep);
  EXPECT_EQ(plan->steps[1].sample, 0);
  EXPECT_NE(plan->steps[1].anchor, 0);
}

TEST(MakeSamplerPlan, EulerKeepsFractionalTimesteps) {
  SamplerConfig config;
  config.timestep_spacing = TimestepSpacing::kLinspace;
  const auto plan = MakeSamplerPlan(config, {.name = "euler", .num_inference_steps = 50});
  EXPECT_FLOAT_EQ(plan->steps[1].timestep, 999 - 999.f / 49);
}

TEST(MakeSamplerPlan, EulerLatentsStartAtTheLargestSigma) {
  SamplerConfig config;
  config.timestep_spacing = TimestepSpacing::kLinspace;
  const auto plan = MakeSamplerPlan(config, {.name = "euler", .num_inference_steps = 10});
  EXPECT_FLOAT_EQ(plan->init_noise_sigma, 14.614646911621094f);
}

TEST(MakeSamplerPlan, DdimDrawsNoiseOnlyWithEta) {
  for (const double eta : {0.0, 0.3}) {
    const auto plan = MakeSamplerPlan({}, {.name = "ddim", .num_inference_steps = 4, .eta = eta});
    for (const SamplerStep& step : plan->steps) EXPECT_EQ(step.draws_noise, eta > 0) << eta;
  }
}

TEST(MakeSamplerPlan, EveryStepCountGivesFiniteWeightsOrSaysWhyNot) {
  for (const SamplerInfo& info : Samplers()) {
    for (const TimestepSpacing spacing :
         {TimestepSpacing::kLeading, TimestepSpacing::kLinspace, TimestepSpacing::kTrailing}) {
      SamplerConfig config;
      config.timestep_spacing = spacing;
      for (int n = 1; n <= kTrainTimesteps; n += n < 100 ? 1 : 7) {
        const auto plan =
            MakeSamplerPlan(config, {.name = std::string(info.name), .num_inference_steps = n});
        ASSERT_TRUE(plan.ok()) << info.name << " " << n << ": " << plan.status();
        for (const SamplerStep& step : plan->steps) {
          const float sum = step.sample + step.prediction + step.anchor + step.noise +
                            step.keep_sample + step.keep_prediction + step.input_scale +
                            step.history[0] + step.history[1] + step.history[2] + step.history[3];
          ASSERT_TRUE(std::isfinite(sum)) << info.name << " " << n << " at " << step.timestep;
          ASSERT_GE(step.timestep, 0) << info.name << " " << n;
          ASSERT_LT(step.timestep, kTrainTimesteps) << info.name << " " << n;
        }
      }
    }
  }
}

TEST(MakeSamplerPlan, RefusesAnUnknownNameAndListsTheKnown) {
  const absl::Status status = TryPlan({}, {.name = "heun"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("\"heun\""), HasSubstr("pndm, ddim, euler, dpmpp-2m")));
}

TEST(MakeSamplerPlan, RefusesStepCountsOutsideTheTrainedTimesteps) {
  for (const int n : {-1, 0, kTrainTimesteps + 1}) {
    const absl::Status status = TryPlan({}, {.name = "ddim", .num_inference_steps = n});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << n;
    EXPECT_THAT(MessageOf(status), AllOf(HasSubstr(absl::StrCat(n)), HasSubstr("1 to 1000")));
  }
}

TEST(MakeSamplerPlan, RefusesAThousandLeadingStepsWhichWouldBeginPastTheTable) {
  for (const char* name : {"pndm", "ddim", "euler"}) {
    SamplerConfig config;
    config.timestep_spacing = TimestepSpacing::kLeading;
    const absl::Status status = TryPlan(config, {.name = name, .num_inference_steps = 1000});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("timestep 1000"), HasSubstr("0 to 999")));
  }
}

TEST(MakeSamplerPlan, RefusesDpmppStepCountsThatVisitATimestepTwice) {
  const absl::Status status = TryPlan({}, {.name = "dpmpp-2m", .num_inference_steps = 1000});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status), HasSubstr("twice"));
}

TEST(MakeSamplerPlan, RefusesEtaWhereThereIsNoneAndOutsideItsRange) {
  EXPECT_THAT(MessageOf(TryPlan({}, {.name = "pndm", .eta = 0.5})), HasSubstr("has none"));
  EXPECT_THAT(MessageOf(TryPlan({}, {.name = "ddim", .eta = 1.5})), HasSubstr("0 to 1"));
  EXPECT_FALSE(TryPlan({}, {.name = "ddim", .eta = std::nan("")}).ok());
  EXPECT_FALSE(TryPlan({}, {.name = "pndm", .eta = std::nan("")}).ok());
}

TEST(MakeSamplerPlan, RefusesSamplePredictionForPndm) {
  SamplerConfig config;
  config.prediction_type = PredictionType::kSample;
  EXPECT_THAT(MessageOf(TryPlan(config, {.name = "pndm"})), HasSubstr("prediction_type"));
}

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
  const std::pair<const char*, const char*> names[] = {{"PNDMScheduler", "pndm"},
                                                       {"DDIMScheduler", "ddim"},
                                                       {"EulerDiscreteScheduler", "euler"},
                                                       {"DPMSolverMultistepScheduler", "dpmpp-2m"}};
  for (const auto& [class_name, sampler] : names) {
    const auto config = ParseSamplerConfig(absl::StrCat(
        R"({"_class_name": ")", class_name, R"(", "clip_sample": false, "skip_prk_steps": true})"));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->default_sampler, sampler);
  }
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
      {"use_karras_sigmas", "true"},
      {"use_exponential_sigmas", "true"},
      {"use_dynamic_shifting", "true"},
      {"clip_sample", "true"},
      {"skip_prk_steps", "false"},
      {"beta_schedule", "\"sigmoid\""},
      {"prediction_type", "\"flow_prediction\""},
      {"timestep_spacing", "\"random\""},
      {"timestep_type", "\"continuous\""},
      {"algorithm_type", "\"sde-dpmsolver++\""},
      {"solver_order", "3"},
      {"final_sigmas_type", "\"sigma_min\""},
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
  const absl::Status status = ParseSamplerConfig(R"({"_class_name": "LCMScheduler"})").status();
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("LCMScheduler"), HasSubstr("PNDMScheduler")));
}

TEST(ParseSamplerConfig, RefusesAbsentKeysWhoseDefaultIsNotImplemented) {
  EXPECT_THAT(MessageOf(ParseSamplerConfig(R"({"_class_name": "PNDMScheduler"})").status()),
              HasSubstr("skip_prk_steps"));
  EXPECT_THAT(MessageOf(ParseSamplerConfig(R"({"_class_name": "DDIMScheduler"})").status()),
              HasSubstr("clip_sample"));
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
