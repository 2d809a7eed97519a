#include "server/engine_thread.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;

TEST(EngineThread, ModelWithoutSafetyCheckerIsRefusedWithAdvice) {
  const RealClock clock;
  Metrics metrics;
  EngineThread thread(
      {},
      []() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
        ModelInfo info = FakeModelRunner::DefaultInfo();
        info.has_safety_checker = false;
        return std::make_unique<FakeModelRunner>(info);
      },
      clock, metrics.engine(0));
  const absl::Status refused = thread.WaitUntilWarm().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--safety off"));
}

TEST(EngineThread, FailureOfTheFactoryIsTold) {
  const RealClock clock;
  Metrics metrics;
  EngineThread thread(
      {}, []() { return absl::NotFoundError("no device cuda:7"); }, clock, metrics.engine(0));
  EXPECT_EQ(thread.WaitUntilWarm().status(), absl::NotFoundError("no device cuda:7"));
}

TEST(EngineThread, DestructionWhileTheModelLoadsWaitsForIt) {
  const RealClock clock;
  Metrics metrics;
  bool loaded = false;
  {
    EngineThread thread(
        {},
        [&loaded]() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
          loaded = true;
          return std::make_unique<FakeModelRunner>();
        },
        clock, metrics.engine(0));
  }
  EXPECT_TRUE(loaded);
}

}  // namespace
}  // namespace image_variations
