#include "server/watchdog.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kNever = absl::InfiniteDuration();

TEST(Watchdog, TellsOnceOfACallThatHangs) {
  SimulatedClock clock;
  Heartbeat heartbeat;
  std::vector<absl::Status> told;
  Watchdog watchdog(heartbeat, clock, kPatience, kNever,
                    [&told](absl::Status why) { told.push_back(std::move(why)); });
  heartbeat.BeginCall("denoise", clock.Now(), absl::Seconds(1));
  clock.Advance(absl::Seconds(59));
  EXPECT_TRUE(watchdog.Look());
  clock.Advance(absl::Seconds(1));
  EXPECT_FALSE(watchdog.Look());
  EXPECT_FALSE(watchdog.Look());
  EXPECT_THAT(told, ::testing::ElementsAre(
                        absl::DeadlineExceededError("denoise has run for 1m, predicted 1s")));
}

TEST(Watchdog, LooksByItself) {
  SimulatedClock clock;
  Heartbeat heartbeat;
  heartbeat.BeginCall("decode", clock.Now() - absl::Hours(1), absl::Seconds(1));
  absl::Notification told;
  Watchdog watchdog(heartbeat, clock, kPatience, absl::Milliseconds(1),
                    [&told](absl::Status) { told.Notify(); });
  told.WaitForNotification();
}

TEST(Watchdog, ServerWhoseCallHangsRefusesAndIsNotServing) {
  SimulatedClock clock(absl::UnixEpoch() + absl::Hours(1));
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.clock = &clock;
  TestServer server(options);
  Watchdog watchdog(server.engine().heartbeat(), clock, kPatience, kNever,
                    [&server](absl::Status why) { server.lifecycle().OnDeviceLost(why); });
  held.is_armed = true;
  std::thread running([&] { Generate(server, Request()); });
  held.is_held.WaitForNotification();
  EXPECT_TRUE(watchdog.Look());
  clock.Advance(kPatience);
  EXPECT_FALSE(watchdog.Look());
  EXPECT_EQ(server.lifecycle().WaitForStop().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(server.Health(), "NOT_SERVING");
  const Reply refused = Generate(server, Request());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.details().reason, "DEVICE_FAILED");
  held.release.Notify();
  running.join();
}

}  // namespace
}  // namespace image_variations
