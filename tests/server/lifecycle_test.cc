#include "server/lifecycle.h"

#include <atomic>
#include <map>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

TEST(Lifecycle, DrainRefusesNewRequestsAndLetsRunningOnesFinish) {
  HeldEngine held;
  TestServer server(held.Options());
  EXPECT_EQ(server.Health(), "SERVING");
  EXPECT_EQ(server.Health("imagevariations.v1.VariationService"), "SERVING");
  held.is_armed = true;
  std::thread running([&] { EXPECT_TRUE(Generate(server, Request()).status.ok()); });
  held.is_held.WaitForNotification();
  server.lifecycle().RequestStop();
  EXPECT_TRUE(server.lifecycle().WaitForStop().ok());
  EXPECT_EQ(server.Health(), "NOT_SERVING");
  std::thread drain([&] { EXPECT_TRUE(server.lifecycle().Drain({})); });
  ASSERT_TRUE(Eventually([&] { return server.lifecycle().state() == ServerState::kDraining; }));

  const Reply refused = Generate(server, Request());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.details().reason, "DRAINING");
  EXPECT_NE(refused.details().retry_delay, std::nullopt);
  held.release.Notify();
  running.join();
  drain.join();
}

TEST(Lifecycle, DrainGivesUpAfterItsTimeout) {
  HeldEngine held;
  TestServer server(held.Options());
  held.is_armed = true;
  std::thread running([&] { Generate(server, Request()); });
  held.is_held.WaitForNotification();
  EXPECT_FALSE(server.lifecycle().Drain({.timeout = absl::ZeroDuration()}));
  held.release.Notify();
  running.join();
}

// As the watchdog says it of a call that goes on and on.
TEST(Lifecycle, DrainEndsWhenTheDeviceIsLost) {
  HeldEngine held;
  TestServer server(held.Options());
  held.is_armed = true;
  std::thread running([&] { Generate(server, Request()); });
  held.is_held.WaitForNotification();
  std::thread drain([&] { EXPECT_FALSE(server.lifecycle().Drain({})); });
  ASSERT_TRUE(Eventually([&] { return server.lifecycle().state() == ServerState::kDraining; }));
  server.lifecycle().OnDeviceLost(absl::DeadlineExceededError("denoise hangs"));
  drain.join();
  EXPECT_EQ(server.lifecycle().device().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(server.lifecycle().state(), ServerState::kFailed);
  held.release.Notify();
  running.join();
}

TEST(Lifecycle, DrainEndsWhenTheDeviceIsLostBeforeItRefuses) {
  TestServer server;
  std::thread drain(
      [&] { EXPECT_FALSE(server.lifecycle().Drain({.delay = absl::InfiniteDuration()})); });
  server.lifecycle().OnDeviceLost(absl::DataLossError("error 719"));
  drain.join();
  EXPECT_EQ(server.lifecycle().state(), ServerState::kFailed);
}

TEST(Lifecycle, LostDeviceAnswersUnavailableAndEndsTheServer) {
  std::atomic<bool> is_lost = false;
  TestServer server({.set_up_runner = [&is_lost](FakeModelRunner& runner) {
    runner.fault = [&is_lost](absl::string_view verb, int) {
      return is_lost && verb == "Denoise" ? absl::DataLossError("error 719") : absl::OkStatus();
    };
  }});
  is_lost = true;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Reply reply = Generate(server, Request());
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(reply.details().reason, "DEVICE_FAILED");
  }
  EXPECT_EQ(server.lifecycle().WaitForStop().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(server.Health(), "NOT_SERVING");
  grpc::ClientContext context;
  v1::GetServerStatusResponse status;
  EXPECT_TRUE(server.stub().GetServerStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::GetServerStatusResponse::STATE_FAILED);
  ExpectIdle(server);
}

// What a health service is told last, by service.
class ToldHealth final : public grpc::HealthCheckServiceInterface {
 public:
  void SetServingStatus(const std::string& service, bool serving) override {
    told_[service] = serving;
  }
  void SetServingStatus(bool serving) override { told_[""] = serving; }

  bool is_serving() const {
    const bool serving = told_.at("");
    EXPECT_EQ(told_.at("imagevariations.v1.VariationService"), serving);
    return serving;
  }

 private:
  std::map<std::string, bool> told_;
};

TEST(Lifecycle, ReadyIsOnlyWhoCanBeReached) {
  TestServer server;
  ToldHealth state, readiness;
  server.lifecycle().AttachHealth(state);
  server.lifecycle().AttachHealth(readiness, HealthView::kReadiness);
  EXPECT_TRUE(readiness.is_serving());
  server.lifecycle().SetReachable(false);
  EXPECT_FALSE(readiness.is_serving());
  EXPECT_TRUE(state.is_serving());  // those who ask through the port itself have reached it
  server.lifecycle().SetReachable(true);
  EXPECT_TRUE(readiness.is_serving());
  server.lifecycle().SetReachable(false);
  server.lifecycle().RequestStop();
  server.lifecycle().SetReachable(true);
  EXPECT_FALSE(readiness.is_serving());
  EXPECT_FALSE(state.is_serving());
  server.lifecycle().DetachHealth();
}

TEST(Lifecycle, StartingServerSaysSo) {
  TestServer server({}, /*serves=*/false);
  EXPECT_EQ(server.Health(), "NOT_SERVING");
  const Reply refused = Generate(server, Request());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.details().reason, "STARTING");
  grpc::ClientContext context;
  v1::GetServerStatusResponse status;
  EXPECT_TRUE(server.stub().GetServerStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::GetServerStatusResponse::STATE_STARTING);
}

}  // namespace
}  // namespace image_variations
