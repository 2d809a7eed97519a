#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_variation_server.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;

constexpr absl::Duration kLongEnough = absl::Seconds(30);

// What a call that StartVary began has reported.
struct Reported {
  std::vector<std::string> events = {};
  std::optional<absl::StatusOr<VariationResult>> end = {};
  absl::Notification ended = {};
};

VaryCallbacks Into(Reported& reported) {
  return {
      .on_admitted =
          [&](const Admitted& admitted) {
            reported.events.push_back(absl::StrCat("admitted behind ", admitted.samples_ahead));
          },
      .on_progress =
          [&](const Progress& progress) {
            reported.events.push_back(absl::StrCat(progress.steps_done, "/", progress.steps_total));
          },
      .on_variation =
          [&](const Variation& variation) {
            reported.events.push_back(absl::StrCat("variation ", variation.index));
          },
      .on_end =
          [&](absl::StatusOr<VariationResult> result) {
            reported.events.push_back("end");
            reported.end = std::move(result);
            reported.ended.Notify();
          }};
}

Client Connect(const FakeVariationServer& server, int connections = 1) {
  return *Client::Connect({.address = server.address(), .connections = connections});
}

TEST(StartedCall, ReportsEventsInOrderAndItsEndLast) {
  FakeVariationServer server;
  const Client client = Connect(server);
  Reported reported;
  client.StartVary({.image = "picture", .sample_count = 2, .seed = 40}, Into(reported));
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  EXPECT_THAT(reported.events, ElementsAre("admitted behind 2", "0/50", "25/50", "50/50",
                                           "variation 1", "variation 0", "end"));
  ASSERT_TRUE(reported.end->ok()) << reported.end->status();
  EXPECT_EQ((**reported.end).variations[1].seed, 41);
  EXPECT_EQ((**reported.end).metrics.unet_rows, 200);
}

TEST(StartedCall, ARefusalIsTheEndWithoutAnotherAttempt) {
  FakeVariationServer server;
  server.RefuseNext(
      Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20)));
  const Client client = Connect(server);
  Reported reported;
  client.StartVary({.image = "picture"}, Into(reported));
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  EXPECT_EQ(DecodeErrorDetails(reported.end->status()).reason, "QUEUE_FULL");
  EXPECT_EQ(server.calls().size(), 1u);
}

TEST(StartedCall, AReplyThatLacksAVariationIsAnError) {
  FakeVariationServer server({.missing_variation = 1});
  const Client client = Connect(server);
  Reported reported;
  client.StartVary({.image = "picture", .sample_count = 2}, Into(reported));
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  EXPECT_EQ(reported.end->status().code(), absl::StatusCode::kInternal);
}

TEST(StartedCall, ADeadlineInThePastEndsItToo) {
  FakeVariationServer server;
  const Client client = Connect(server);
  Reported reported;
  client.StartVary({.image = "picture", .deadline = absl::UnixEpoch()}, Into(reported));
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  EXPECT_EQ(reported.end->status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(StartedCall, CancelEndsItHereAndAtTheServer) {
  FakeVariationServer server({.hang_when_admitted = true});
  const Client client = Connect(server);
  Reported reported;
  absl::Notification admitted;
  VaryCallbacks callbacks = Into(reported);
  callbacks.on_admitted = [&](const Admitted&) { admitted.Notify(); };
  const StartedCall call = client.StartVary({.image = "picture"}, std::move(callbacks));
  ASSERT_TRUE(admitted.WaitForNotificationWithTimeout(kLongEnough));
  call.Cancel();
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  EXPECT_EQ(reported.end->status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(server.WaitUntilCancelled(kLongEnough));
}

TEST(StartedCall, CancelAfterTheEndDoesNothing) {
  FakeVariationServer server;
  const Client client = Connect(server);
  Reported reported;
  const StartedCall call = client.StartVary({.image = "picture"}, Into(reported));
  ASSERT_TRUE(reported.ended.WaitForNotificationWithTimeout(kLongEnough));
  call.Cancel();
  EXPECT_TRUE(reported.end->ok());
}

// The server takes one call on a connection at a time, and neither call ends by itself: both are
// admitted only if each has a connection of its own.
TEST(StartedCall, CallsTakeTheConnectionsInTurn) {
  FakeVariationServer server({.hang_when_admitted = true, .calls_per_connection = 1});
  const Client client = Connect(server, 2);
  absl::BlockingCounter admitted(2);
  absl::BlockingCounter ended(2);
  std::vector<StartedCall> calls;
  for (int i = 0; i < 2; ++i) {
    calls.push_back(client.StartVary(
        {.image = "picture"},
        {.on_admitted = [&](const Admitted&) { admitted.DecrementCount(); },
         .on_end = [&](absl::StatusOr<VariationResult>) { ended.DecrementCount(); }}));
  }
  admitted.Wait();
  for (const StartedCall& call : calls) call.Cancel();
  ended.Wait();
}

}  // namespace
}  // namespace image_variations::client
