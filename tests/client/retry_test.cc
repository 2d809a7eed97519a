#include "client/retry.h"

#include "client/conversion.h"
#include "gtest/gtest.h"
#include "tests/client/fake_variation_server.h"

namespace image_variations::client {
namespace {

constexpr RetryPolicy kPolicy{
    .max_attempts = 4, .first_backoff = absl::Seconds(1), .max_backoff = absl::Seconds(3)};
constexpr absl::Duration kNoDeadline = absl::InfiniteDuration();

absl::Status QueueFull(std::optional<absl::Duration> retry_after) {
  return FromGrpc(Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", retry_after));
}

TEST(WaitBeforeRetry, IsTheServersTime) {
  EXPECT_EQ(WaitBeforeRetry(kPolicy, QueueFull(absl::Seconds(40)), 1, kNoDeadline, 0),
            absl::Seconds(40));
}

TEST(WaitBeforeRetry, JitterLengthensByUpToAQuarterAndNeverShortens) {
  EXPECT_EQ(WaitBeforeRetry(kPolicy, QueueFull(absl::Seconds(40)), 1, kNoDeadline, 0.5),
            absl::Seconds(45));
}

TEST(WaitBeforeRetry, DoublesFromTheFirstBackoffUpToTheLargestWithoutATimeOfTheServer) {
  const absl::Status unavailable = absl::UnavailableError("connection refused");
  EXPECT_EQ(WaitBeforeRetry(kPolicy, unavailable, 1, kNoDeadline, 0), absl::Seconds(1));
  EXPECT_EQ(WaitBeforeRetry(kPolicy, unavailable, 2, kNoDeadline, 0), absl::Seconds(2));
  EXPECT_EQ(WaitBeforeRetry(kPolicy, unavailable, 3, kNoDeadline, 0), absl::Seconds(3));
}

TEST(WaitBeforeRetry, IsAbsentAfterTheLastAttempt) {
  EXPECT_EQ(WaitBeforeRetry(kPolicy, QueueFull(absl::Seconds(1)), 4, kNoDeadline, 0), std::nullopt);
}

TEST(WaitBeforeRetry, IsAbsentWhenItWouldReachTheDeadline) {
  const absl::Status refused = QueueFull(absl::Seconds(10));
  EXPECT_EQ(WaitBeforeRetry(kPolicy, refused, 1, absl::Seconds(10), 0), std::nullopt);
  EXPECT_EQ(WaitBeforeRetry(kPolicy, refused, 1, absl::Seconds(11), 0), absl::Seconds(10));
}

TEST(WaitBeforeRetry, IsAbsentWhenTheServerIsFullAndNamesNoTime) {
  EXPECT_EQ(WaitBeforeRetry(kPolicy, QueueFull({}), 1, kNoDeadline, 0), std::nullopt);
}

TEST(WaitBeforeRetry, IsAbsentForErrorsThatWouldComeAgain) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("x"), absl::InternalError("x"), absl::CancelledError("x"),
        absl::DeadlineExceededError("x"), absl::PermissionDeniedError("x")}) {
    EXPECT_EQ(WaitBeforeRetry(kPolicy, status, 1, kNoDeadline, 0), std::nullopt) << status;
  }
}

}  // namespace
}  // namespace image_variations::client
