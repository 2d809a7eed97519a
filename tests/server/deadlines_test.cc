// Calls with a deadline, through real gRPC, on a clock of the test's own.
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Key;
using ::testing::Pair;

TEST(Deadline, MidWayStopsTheSamplesAndTellsHowFarTheyCame) {
  SlowSteps slow;
  TestServer server(slow.Options(absl::Seconds(400)));
  slow.is_slow = true;
  const Reply reply = Generate(server, Request(/*samples=*/1, /*steps=*/10),
                               slow.clock.Now() + absl::Seconds(1000));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(reply.details().reason, "DEADLINE_PASSED");
  EXPECT_THAT(reply.details().metadata,
              ElementsAre(Pair("steps_done", "3"), Pair("steps_total", "10")));
  ExpectIdle(server);
}

TEST(Deadline, ThatHasPassedIsToldBeforeAnyWork) {
  SlowSteps slow;
  TestServer server(slow.Options(absl::ZeroDuration()));
  const absl::Time deadline = slow.clock.Now() + absl::Seconds(1000);
  slow.clock.Advance(absl::Seconds(1001));
  const Reply reply = Generate(server, Request(), deadline);
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(reply.details().reason, "DEADLINE_PASSED");
}

TEST(Deadline, ThatCannotBeMetIsRefusedByTheMeasuredStepCost) {
  SlowSteps slow;
  slow.is_slow = true;  // already in the warm-up
  TestServer server(slow.Options(absl::Seconds(100)));
  const absl::Time deadline = slow.clock.Now() + absl::Seconds(900);
  const Reply refused = Generate(server, Request(/*samples=*/1, /*steps=*/20), deadline);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "DEADLINE_UNREACHABLE");
  EXPECT_THAT(refused.details().metadata, Contains(Key("predicted")));
  EXPECT_EQ(refused.details().retry_delay, std::nullopt);
}

}  // namespace
}  // namespace image_variations
