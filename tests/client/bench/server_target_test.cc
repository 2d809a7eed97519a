#include "client/bench/server_target.h"

#include "absl/time/clock.h"
#include "client/bench/load_run.h"
#include "gtest/gtest.h"
#include "tests/client/fake_variation_server.h"

namespace image_variations::client {
namespace {

TEST(ServerTarget, ALoadReachesARealServerAndEveryRequestIsAnsweredOnce) {
  FakeVariationServer server;
  server.RefuseNext(
      Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20)));
  const Client client = *Client::Connect({.address = server.address(), .connections = 4});
  ServerTarget target(client, &absl::Now);
  const History history =
      RunLoad({.pacer = {.scenario = Scenario::kClosedLoop, .concurrency = 8, .max_requests = 200},
               .check_bytes = true},
              {{.image = "picture", .sample_count = 2, .seed = 1}}, target);
  ASSERT_EQ(history.records.size(), 200u);
  int refused = 0;
  for (const RequestRecord& record : history.records) {
    EXPECT_TRUE(record.answered);
    EXPECT_GT(record.latency(), absl::ZeroDuration());
    refused += record.refused ? 1 : 0;
    if (record.refused) continue;
    EXPECT_TRUE(record.admitted);
    EXPECT_EQ(record.generated, 2);
    EXPECT_EQ(record.unet_rows, 200);
  }
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(history.surplus_answers, 0);
  EXPECT_EQ(history.mistaken_answers, 0);
  EXPECT_EQ(history.compared_variations, 2 * 198);
  EXPECT_EQ(history.differing_variations, 0);
  EXPECT_EQ(server.calls().size(), 200u);
}

TEST(ServerTarget, DestroyedItCancelsWhatRuns) {
  FakeVariationServer server({.hang_when_admitted = true});
  const Client client = *Client::Connect({.address = server.address()});
  {
    ServerTarget target(client, &absl::Now);
    target.Send(0, {.image = "picture"});
  }
  SUCCEED() << "it returned";
}

TEST(ServerTarget, WaitingEndsAtItsTime) {
  FakeVariationServer server({.hang_when_admitted = true});
  const Client client = *Client::Connect({.address = server.address()});
  ServerTarget target(client, &absl::Now);
  target.Send(0, {.image = "picture"});
  EXPECT_TRUE(target.WaitForAnswers(absl::Now() + absl::Milliseconds(1)).empty());
}

}  // namespace
}  // namespace image_variations::client
