// A server with two devices.
#include <thread>

#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "server/engine_pool.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

using ::testing::HasSubstr;

// Of which the first is held in its first call when it is told to. Time stands still, so nothing
// costs any: of two devices the one with fewer samples ahead is the sooner one.
struct TwoEngines {
  explicit TwoEngines(std::function<void(FakeModelRunner&)> set_up_second = {})
      : server(Options(std::move(set_up_second))) {}

  TestServerOptions Options(std::function<void(FakeModelRunner&)> set_up_second) {
    TestServerOptions options = first.Options();
    options.clock = &clock;
    options.set_up_more_runners.push_back(std::move(set_up_second));
    return options;
  }
  // A request that the first one is at until it is released.
  std::thread HoldFirst(Reply* reply) {
    first.is_armed = true;
    std::thread running([this, reply] { *reply = Generate(server, Request()); });
    first.is_held.WaitForNotification();
    return running;
  }
  std::string MetricsText() {
    return prometheus::TextSerializer().Serialize(server.metrics().registry()->Collect());
  }

  SimulatedClock clock;
  HeldEngine first;
  TestServer server;
};

TEST(TwoEngines, RequestIsDoneByTheIdleOneWithTheSameBytes) {
  TwoEngines two;
  Reply held;
  std::thread running = two.HoldFirst(&held);
  const Reply reply = Generate(two.server, Request());
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  two.first.release.Notify();
  running.join();
  ASSERT_TRUE(held.status.ok()) << held.status.error_message();
  EXPECT_EQ(reply.response.variations(0).image(), held.response.variations(0).image());
  const std::string text = two.MetricsText();
  EXPECT_THAT(text, HasSubstr("image_variations_unet_steps_total{engine=\"0\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("image_variations_unet_steps_total{engine=\"1\"} 4\n"));
}

TEST(TwoEngines, CancelReachesTheOneThatWorksForTheCall) {
  HeldEngine second;
  TwoEngines two(second.Options().set_up_runner);
  Reply held;
  std::thread running = two.HoldFirst(&held);
  second.is_armed = true;
  grpc::ClientContext context;
  grpc::Status left;
  std::thread leaving([&] {
    v1::GenerateVariationsResponse response;
    left = two.server.stub().GenerateVariations(&context, Request(1, 200), &response);
  });
  second.is_held.WaitForNotification();
  context.TryCancel();
  leaving.join();
  EXPECT_EQ(left.error_code(), grpc::StatusCode::CANCELLED);
  second.release.Notify();
  EXPECT_TRUE(Eventually([&] { return two.server.gate().requests() == 1; }));
  EXPECT_TRUE(Eventually([&] { return two.server.engine(1).status().samples_running == 0; }));
  two.first.release.Notify();
  running.join();
  EXPECT_TRUE(held.status.ok());
}

TEST(TwoEngines, LossOfOneDeviceEndsTheServer) {
  std::atomic<bool> is_lost = false;
  TwoEngines two([&is_lost](FakeModelRunner& runner) {
    runner.fault = [&is_lost](absl::string_view verb, int) {
      return is_lost && verb == "Denoise" ? absl::DataLossError("error 719") : absl::OkStatus();
    };
  });
  is_lost = true;
  Reply held;
  std::thread running = two.HoldFirst(&held);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Reply reply = Generate(two.server, Request());
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(reply.details().reason, "DEVICE_FAILED");
  }
  const absl::Status stop = two.server.lifecycle().WaitForStop();
  EXPECT_EQ(stop.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(stop.message(), HasSubstr("engine 1: "));
  EXPECT_EQ(two.server.Health(), "NOT_SERVING");
  EXPECT_THAT(two.MetricsText(), HasSubstr("image_variations_device_lost{engine=\"1\"} 1\n"));
  two.first.release.Notify();
  running.join();
  EXPECT_TRUE(held.status.ok());  // it was done in time
}

TEST(TwoEngines, AreBothToldOf) {
  TwoEngines two;
  grpc::ClientContext for_model, for_status;
  v1::GetModelResponse model;
  ASSERT_TRUE(two.server.stub().GetModel(&for_model, {}, &model).ok());
  ASSERT_EQ(model.devices_size(), 2);
  EXPECT_EQ(model.devices(1).device(), model.device());
  EXPECT_EQ(model.devices(1).fingerprint(), model.fingerprint());
  v1::GetServerStatusResponse status;
  ASSERT_TRUE(two.server.stub().GetServerStatus(&for_status, {}, &status).ok());
  ASSERT_EQ(status.devices_size(), 2);
  EXPECT_EQ(status.devices(1).step_costs_size(), status.step_costs_size());
}

TEST(TwoEngines, BacklogIsTheirMean) {
  Metrics metrics(2);
  const CostModel cost;
  metrics.engine(0).OnTick({.predicted_backlog = absl::Seconds(4), .cost = &cost});
  metrics.engine(1).OnTick({.predicted_backlog = absl::Seconds(2), .cost = &cost});
  EXPECT_THAT(prometheus::TextSerializer().Serialize(metrics.registry()->Collect()),
              HasSubstr("image_variations_predicted_backlog_seconds 3\n"));
}

TEST(EnginePool, FirstErrorOfAnyDeviceIsItsOwn) {
  const RealClock clock;
  AdmissionGate gate({.devices = 2});
  Lifecycle lifecycle(gate);
  Metrics metrics(2);
  std::vector<ModelRunnerFactory> factories;
  factories.push_back([] { return std::make_unique<FakeModelRunner>(); });
  factories.push_back([] { return absl::NotFoundError("no device cuda:7"); });
  EnginePool engines({}, std::move(factories), clock, lifecycle, metrics);
  EXPECT_EQ(engines.WaitUntilWarm(), absl::NotFoundError("no device cuda:7"));
}

}  // namespace
}  // namespace image_variations
