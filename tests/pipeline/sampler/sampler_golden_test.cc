// Plans against diffusers' schedulers: tests/golden/samplers, made by tools/make_sampler_golden.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "pipeline/sampler/noise_schedule.h"
#include "pipeline/sampler/sampler.h"
#include "tests/pipeline/sampler/scalar_latents.h"

namespace image_variations {
namespace {

using nlohmann::json;

constexpr double kRelativeTolerance = 1e-5;  // diffusers computes its weights in float32
// A fraction of two trained timesteps, by logarithms that differ by 1e-7: diffusers' are float32.
constexpr float kKarrasTimestepTolerance = 2e-4f;
constexpr double kNoise = 0.5;

const json& Golden() {
  static const json golden = json::parse(std::ifstream("tests/golden/samplers/samplers.json"));
  return golden;
}

SamplerConfig Config(const std::string& name) {
  return ParseSamplerConfig(Golden().at("configs").at(name).dump()).value();
}

SamplerPlan Plan(const json& golden) {
  return MakeSamplerPlan(Config(golden.at("config")),
                         {.name = golden.at("sampler"),
                          .num_inference_steps = golden.at("num_inference_steps"),
                          .eta = golden.at("eta")})
      .value();
}

double FakePrediction(const std::string& model, double x, double timestep) {
  return 0.1 * x + (model == "lin_t" ? 0.2 * std::sin(0.01 * timestep) : 0);
}

void ExpectNear(double actual, double golden, const std::string& what) {
  EXPECT_NEAR(actual, golden, kRelativeTolerance * std::max(1.0, std::abs(golden))) << what;
}

// The parameter is an index into the cases.
class SamplerGolden : public testing::TestWithParam<size_t> {
 protected:
  const json& golden_ = Golden().at("cases").at(GetParam());
};

TEST_P(SamplerGolden, TimestepsAreDiffusers) {
  const SamplerPlan plan = Plan(golden_);
  const bool karras = Config(golden_.at("config")).use_karras_sigmas;
  std::vector<float> timesteps;
  for (const SamplerStep& step : plan.steps) timesteps.push_back(step.timestep);
  EXPECT_THAT(timesteps,
              testing::Pointwise(testing::FloatNear(karras ? kKarrasTimestepTolerance : 0),
                                 golden_.at("timesteps").get<std::vector<float>>()));
}

TEST_P(SamplerGolden, DrawsNoiseAsOftenAsDiffusers) {
  const SamplerPlan plan = Plan(golden_);
  const auto draws = std::count_if(plan.steps.begin(), plan.steps.end(),
                                   [](const SamplerStep& step) { return step.draws_noise; });
  EXPECT_EQ(draws, golden_.at("noise_draws").get<int>());
}

TEST_P(SamplerGolden, LatentsFollowDiffusersStepByStep) {
  const SamplerPlan plan = Plan(golden_);
  ExpectNear(plan.init_noise_sigma, golden_.at("init_noise_sigma"), "init_noise_sigma");
  for (const std::string model : {"lin", "lin_t"}) {
    // Of every step, or of the last one only.
    const auto golden_latents = golden_.at(model).at("latents").get<std::vector<double>>();
    const auto golden_inputs = golden_.at(model).value("model_inputs", std::vector<double>{});
    ScalarLatents latents{.x = plan.init_noise_sigma, .anchor = 0, .history = {}};
    std::vector<double> trace;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const SamplerStep& step = plan.steps[i];
      const std::string what = model + " step " + std::to_string(i);
      if (!golden_inputs.empty()) {
        ExpectNear(latents.ModelInput(step), golden_inputs.at(i), what + ", input");
      }
      latents.Apply(step, FakePrediction(model, latents.x, step.timestep), kNoise);
      trace.push_back(latents.x);
    }
    const size_t first = trace.size() - golden_latents.size();
    for (size_t i = first; i < trace.size(); ++i) {
      ExpectNear(trace[i], golden_latents[i - first], model + " step " + std::to_string(i));
    }
  }
}

std::string CaseName(const testing::TestParamInfo<size_t>& info) {
  const json& golden = Golden().at("cases").at(info.param);
  std::string name = golden.at("config").get<std::string>() + "_" +
                     golden.at("sampler").get<std::string>() + "_" +
                     std::to_string(golden.at("num_inference_steps").get<int>()) +
                     (golden.at("eta") == 0 ? "" : "_eta");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Diffusers, SamplerGolden,
                         testing::Range<size_t>(0, Golden().at("cases").size()), CaseName);

TEST(NoiseTables, AreDiffusersBitForBit) {
  const SamplerConfig config = Config("published");
  const json& golden = Golden().at("tables_of_published");
  const std::vector<float> betas = Betas(config);
  const std::vector<float> alphas = AlphasCumprod(config);
  for (const auto& [index, beta] : golden.at("betas").items()) {
    EXPECT_EQ(betas.at(std::stoul(index)), beta.get<float>()) << "beta " << index;
  }
  for (const auto& [index, alpha] : golden.at("alphas_cumprod").items()) {
    EXPECT_EQ(alphas.at(std::stoul(index)), alpha.get<float>()) << "alpha " << index;
  }
  EXPECT_EQ(std::accumulate(betas.begin(), betas.end(), 0.0), golden.at("betas_sum"));
  EXPECT_EQ(std::accumulate(alphas.begin(), alphas.end(), 0.0), golden.at("alphas_cumprod_sum"));
}

}  // namespace
}  // namespace image_variations
