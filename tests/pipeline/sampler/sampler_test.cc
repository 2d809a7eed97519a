#include "pipeline/sampler/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "absl/algorithm/container.h"
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

bool IsFinite(const SamplerStep& step) {
  const double sum = step.timestep + step.input_scale + step.sample + step.prediction +
                     step.anchor + step.noise + step.keep_sample + step.keep_prediction;
  return std::isfinite(std::accumulate(step.history.begin(), step.history.end(), sum));
}

TEST(Samplers, AreListedWithTheCheckpointsOwnFirst) {
  std::vector<std::string> names;
  for (const SamplerInfo& info : Samplers()) names.emplace_back(info.name);
  EXPECT_THAT(names, ElementsAre("pndm", "ddim", "ddpm", "euler", "euler-ancestral", "heun", "lms",
                                 "dpmpp-2m", "dpmpp-2m-karras", "dpmpp-2m-sigma-min",
                                 "dpmpp-2m-sde", "dpmpp-2m-sde-karras", "unipc", "deis", "lcm"));
}

TEST(Samplers, OnlyDdimHasEta) {
  for (const SamplerInfo& info : Samplers()) EXPECT_EQ(info.has_eta, info.name == "ddim");
}

TEST(UnetCallsOf, AreThePlansSteps) {
  std::vector<int> counts = {333, 500, 998, 999, 1000};
  for (int steps = 1; steps <= 250; steps += steps < 60 ? 1 : 10) counts.push_back(steps);
  for (const TimestepSpacing spacing :
       {TimestepSpacing::kLeading, TimestepSpacing::kLinspace, TimestepSpacing::kTrailing}) {
    SamplerConfig config;
    config.timestep_spacing = spacing;
    for (const SamplerInfo& info : Samplers()) {
      for (const int steps : counts) {
        const SamplerChoice choice{std::string(info.name), steps};
        const auto plan = MakeSamplerPlan(config, choice);
        const auto calls = UnetCallsOf(config, choice);
        if (plan.ok()) {
          ASSERT_TRUE(calls.ok()) << info.name << " " << steps;
          EXPECT_EQ(*calls, static_cast<int>(plan->steps.size())) << info.name << " " << steps;
        } else if (!calls.ok()) {
          EXPECT_EQ(calls.status(), plan.status());
        }
      }
    }
  }
}

TEST(UnetCallsOf, RefusesWhatTheSamplerCannotDo) {
  const SamplerChoice choices[] = {{"none", 10}, {"ddim", 0},       {"ddim", 1001},
                                   {"lcm", 51},  {"pndm", 10, 0.5}, {"ddim", 10, 1.5}};
  for (const SamplerChoice& choice : choices) {
    EXPECT_EQ(UnetCallsOf({}, choice).status().code(), absl::StatusCode::kInvalidArgument);
  }
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

TEST(MakeSamplerPlan, HeunCallsTheUnetTwicePerStepButTheLast) {
  SamplerConfig config;
  config.timestep_spacing = TimestepSpacing::kTrailing;
  const auto plan = MakeSamplerPlan(config, {.name = "heun", .num_inference_steps = 4});
  EXPECT_THAT(Timesteps(*plan), ElementsAre(999, 749, 749, 499, 499, 249, 249));
}

TEST(MakeSamplerPlan, HeunTakesEachStepAgainFromItsAnchor) {
  const auto plan = MakeSamplerPlan({}, {.name = "heun", .num_inference_steps = 2});
  ASSERT_EQ(plan->steps.size(), 3u);
  EXPECT_TRUE(plan->steps[0].save_anchor);
  EXPECT_EQ(plan->steps[1].anchor, 1);
  EXPECT_FALSE(plan->steps[1].keep);
  EXPECT_DOUBLE_EQ(plan->steps[1].history[0], plan->steps[0].history[0] / 2);
}

TEST(MakeSamplerPlan, LmsBeginsWithOneDerivativeAndGoesOnWithFour) {
  const auto plan = MakeSamplerPlan({}, {.name = "lms", .num_inference_steps = 6});
  for (size_t i = 0; i < plan->steps.size(); ++i) {
    const auto& history = plan->steps[i].history;
    const auto used =
        history.size() - static_cast<size_t>(std::count(history.begin(), history.end(), 0.0));
    EXPECT_EQ(used, std::min<size_t>(i + 1, 4)) << i;
  }
}

TEST(MakeSamplerPlan, StochasticSamplersDrawAsOftenAsDiffusers) {
  SamplerConfig config;
  config.timestep_spacing = TimestepSpacing::kLinspace;  // the last timestep is 0
  const std::pair<const char*, int> draws[] = {
      {"ddpm", 4}, {"euler-ancestral", 5}, {"dpmpp-2m-sde", 5}, {"lcm", 4}, {"heun", 0}};
  for (const auto& [name, count] : draws) {
    const auto plan = MakeSamplerPlan(config, {.name = name, .num_inference_steps = 5});
    EXPECT_EQ(std::count_if(plan->steps.begin(), plan->steps.end(),
                            [](const SamplerStep& step) { return step.draws_noise; }),
              count)
        << name;
  }
}

TEST(MakeSamplerPlan, KarrasStepsFinerTowardsTheEnd) {
  const auto plan = MakeSamplerPlan({}, {.name = "dpmpp-2m-karras", .num_inference_steps = 10});
  EXPECT_THAT(Timesteps(*plan), ElementsAre(999, 916, 815, 687, 523, 327, 146, 41, 7, 0));
}

TEST(MakeSamplerPlan, TheConfigsKarrasSigmasGoToSamplersWithoutTheirOwnSay) {
  SamplerConfig config;
  config.use_karras_sigmas = true;
  EXPECT_FLOAT_EQ(
      MakeSamplerPlan(config, {.name = "unipc", .num_inference_steps = 10})->steps[1].timestep,
      916);
  EXPECT_FLOAT_EQ(
      MakeSamplerPlan(config, {.name = "dpmpp-2m", .num_inference_steps = 10})->steps[1].timestep,
      899);
}

TEST(MakeSamplerPlan, LcmTakesTimestepsThatTheModelWasDistilledFor) {
  const auto plan = MakeSamplerPlan({}, {.name = "lcm", .num_inference_steps = 4});
  EXPECT_THAT(Timesteps(*plan), ElementsAre(999, 759, 499, 259));
}

// The parameter: spacing, and whether Karras' sigmas are taken down to the smallest trained one.
class EveryPlan : public testing::TestWithParam<std::tuple<TimestepSpacing, bool>> {};

TEST_P(EveryPlan, HasFiniteWeightsAtTrainedTimesteps) {
  SamplerConfig config;
  std::tie(config.timestep_spacing, config.use_karras_sigmas) = GetParam();
  config.ends_at_sigma_min = config.use_karras_sigmas;
  for (const SamplerInfo& info : Samplers()) {
    for (int n = 1; n < kTrainTimesteps; n += n < 250 ? 1 : 97) {
      if (info.name == "lcm" && n > config.original_inference_steps) break;
      const std::string what = absl::StrCat(info.name, " ", n);
      const auto plan =
          MakeSamplerPlan(config, {.name = std::string(info.name), .num_inference_steps = n});
      ASSERT_TRUE(plan.ok()) << what << ": " << plan.status();
      ASSERT_TRUE(absl::c_all_of(plan->steps, IsFinite)) << what;
      for (const float timestep : Timesteps(*plan)) {
        ASSERT_TRUE(timestep >= 0 && timestep < kTrainTimesteps) << what << " at " << timestep;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Options, EveryPlan,
                         testing::Combine(testing::Values(TimestepSpacing::kLeading,
                                                          TimestepSpacing::kLinspace,
                                                          TimestepSpacing::kTrailing),
                                          testing::Bool()));

TEST(MakeSamplerPlan, RefusesAnUnknownNameAndListsTheKnown) {
  const absl::Status status = TryPlan({}, {.name = "hein"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("\"hein\""), HasSubstr("pndm, ddim, ddpm, euler")));
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

TEST(MakeSamplerPlan, RefusesStepCountsThatVisitATimestepTwice) {
  for (const char* name : {"dpmpp-2m", "dpmpp-2m-sde", "unipc", "deis"}) {
    const absl::Status status = TryPlan({}, {.name = name, .num_inference_steps = 1000});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(MessageOf(status), HasSubstr("twice"));
  }
}

TEST(MakeSamplerPlan, RefusesMoreLcmStepsThanTheModelWasDistilledFor) {
  EXPECT_TRUE(TryPlan({}, {.name = "lcm", .num_inference_steps = 50}).ok());
  EXPECT_THAT(
      MessageOf(TryPlan({}, {.name = "lcm", .num_inference_steps = 51})),
      AllOf(HasSubstr("is 51"), HasSubstr("1 to 50"), HasSubstr("original_inference_steps")));
}

TEST(MakeSamplerPlan, RefusesPredictionsThatDiffusersDoesNotHave) {
  SamplerConfig config;
  config.prediction_type = PredictionType::kSample;
  for (const char* name : {"pndm", "euler-ancestral"}) {
    EXPECT_THAT(MessageOf(TryPlan(config, {.name = name})), HasSubstr("prediction_type sample"));
  }
}

TEST(MakeSamplerPlan, RefusesAUnipcThatWouldEndAtSigmaZeroInItsSecondOrder) {
  SamplerConfig config;
  config.lower_order_final = false;
  EXPECT_THAT(MessageOf(TryPlan(config, {.name = "unipc"})), HasSubstr("lower_order_final"));
  config.ends_at_sigma_min = true;
  EXPECT_TRUE(TryPlan(config, {.name = "unipc"}).ok());
}

TEST(MakeSamplerPlan, RefusesBetasThatWouldMakeItsWeightsInfinite) {
  SamplerConfig config;
  config.num_train_timesteps = 100;
  for (const double beta : {1e-30, 0.999999}) {  // never any noise; soon no signal
    config.trained_betas.assign(100, beta);
    for (const SamplerInfo& info : Samplers()) {
      const auto plan =
          MakeSamplerPlan(config, {.name = std::string(info.name), .num_inference_steps = 4});
      EXPECT_TRUE(!plan.ok() || absl::c_all_of(plan->steps, IsFinite)) << info.name << " " << beta;
    }
    EXPECT_FALSE(TryPlan(config, {.name = "ddpm", .num_inference_steps = 4}).ok()) << beta;
  }
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

}  // namespace
}  // namespace image_variations
