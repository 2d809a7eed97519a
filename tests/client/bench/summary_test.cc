#include "client/bench/summary.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

RequestRecord Finished(absl::Duration latency) {
  return {.due = absl::Seconds(1),
          .sent = absl::Seconds(1),
          .ended = absl::Seconds(1) + latency,
          .answered = true,
          .attempts = 1,
          .admitted = true,
          .generated = 1};
}

RequestRecord Refused(absl::Duration time_to_answer) {
  return {.answered = true,
          .attempts = 1,
          .status = absl::ResourceExhaustedError("full"),
          .reason = "QUEUE_FULL",
          .time_to_answer = time_to_answer,
          .refused = true};
}

// `late` requests of 3 s and the rest of 1 s, in a run of 100 s.
History WithLate(int count, int late) {
  History history{.elapsed = absl::Seconds(100)};
  for (int i = 0; i < count; ++i) {
    history.records.push_back(Finished(absl::Seconds(i < late ? 3 : 1)));
  }
  return history;
}

const LoadTargets kTwoSeconds = {.latency = absl::Seconds(2), .min_duration = absl::Seconds(100)};

TEST(Verdict, IsValidWithJustEnoughRequests) {
  EXPECT_TRUE(Summarize(WithLate(459, 0), kTwoSeconds).verdict->valid);
  EXPECT_TRUE(Summarize(WithLate(662, 1), kTwoSeconds).verdict->valid);
}

TEST(Verdict, OneRequestFewerIsTooFew) {
  EXPECT_THAT(Summarize(WithLate(458, 0), kTwoSeconds).verdict->problems,
              ElementsAre("0 of 458 requests missed 2.00 s: 99 % confidence needs 459 requests "
                          "with no more"));
  EXPECT_FALSE(Summarize(WithLate(661, 1), kTwoSeconds).verdict->valid);
}

TEST(Verdict, ALatencyOfJustTheTargetIsInTime) {
  History history = WithLate(459, 0);
  history.records[0] = Finished(absl::Seconds(2));
  EXPECT_TRUE(Summarize(history, kTwoSeconds).verdict->valid);
  history.records[0] = Finished(absl::Seconds(2) + absl::Nanoseconds(1));
  EXPECT_FALSE(Summarize(history, kTwoSeconds).verdict->valid);
}

TEST(Verdict, APercentileAboveTheTargetIsSaidAsSuch) {
  EXPECT_THAT(Summarize(WithLate(1000, 11), kTwoSeconds).verdict->problems,
              ElementsAre("latency p99 is 3.00 s, target 2.00 s"));
}

TEST(Verdict, ARefusalIsALateRequest) {
  History history = WithLate(459, 0);
  history.records.push_back(Refused(absl::Milliseconds(1)));
  EXPECT_THAT(Summarize(history, kTwoSeconds).verdict->problems,
              ElementsAre("1 of 460 requests missed 2.00 s: 99 % confidence needs 662 requests "
                          "with no more"));
}

TEST(Verdict, ARunThatRefusesMostHasNoLatency) {
  History history = WithLate(10, 0);
  for (int i = 0; i < 90; ++i) history.records.push_back(Refused(absl::Milliseconds(1)));
  EXPECT_THAT(Summarize(history, kTwoSeconds).verdict->problems,
              ElementsAre("latency p99 has no end: too few of 100 requests finished"));
}

TEST(Verdict, AShortRunIsInvalid) {
  History history = WithLate(1000, 0);
  history.elapsed = absl::Seconds(99);
  EXPECT_THAT(Summarize(history, kTwoSeconds).verdict->problems,
              ElementsAre("ran 99.0 s, at least 100 s"));
}

TEST(Verdict, FewerRequestsThanAskedForAreInvalid) {
  LoadTargets targets = kTwoSeconds;
  targets.min_requests = 1001;
  EXPECT_THAT(Summarize(WithLate(1000, 0), targets).verdict->problems,
              ElementsAre("1000 requests, at least 1001"));
}

TEST(Verdict, AnInterruptedRunIsInvalid) {
  History history = WithLate(1000, 0);
  history.interrupted = true;
  EXPECT_THAT(Summarize(history, kTwoSeconds).verdict->problems, ElementsAre("interrupted"));
}

TEST(Verdict, AWrongHistoryIsInvalid) {
  History history = WithLate(1000, 0);
  history.records[0].answered = false;
  history.surplus_answers = 1;
  history.mistaken_answers = 2;
  history.differing_variations = 3;
  const LoadSummary summary = Summarize(history, kTwoSeconds);
  EXPECT_FALSE(summary.history_is_right());
  EXPECT_THAT(summary.verdict->problems,
              ElementsAre("1 requests have no answer", "1 answers belong to no request that waits",
                          "2 answers have the id of another request",
                          "3 variations differ from their repetition"));
}

TEST(Verdict, ThereIsNoneWithoutATarget) {
  EXPECT_EQ(Summarize(WithLate(10, 10), {}).verdict, std::nullopt);
}

TEST(Summary, GoodputIsWhatFinishesWithinTheDeadline) {
  EXPECT_DOUBLE_EQ(Summarize(WithLate(100, 20), {.deadline = absl::Seconds(2)}).goodput, 0.8);
  EXPECT_DOUBLE_EQ(Summarize(WithLate(100, 20), {.latency = absl::Seconds(2)}).goodput, 0.8);
  EXPECT_DOUBLE_EQ(Summarize(WithLate(100, 20), {}).goodput, 1);
}

TEST(Summary, EveryRequestIsCountedOnce) {
  History history = WithLate(10, 0);
  history.records.push_back(Refused(absl::Milliseconds(1)));
  history.records.push_back(Refused(absl::Milliseconds(9)));
  history.records.push_back({.answered = true,
                             .attempts = 1,
                             .status = absl::UnavailableError("gone"),
                             .reason = "UNAVAILABLE"});
  history.records.push_back({.answered = true,
                             .given_up = true,
                             .attempts = 1,
                             .status = absl::CancelledError(""),
                             .reason = "CANCELLED"});
  const LoadSummary summary = Summarize(history, {});
  EXPECT_EQ(summary.sent, 14);
  EXPECT_EQ(summary.finished, 10);
  EXPECT_EQ(summary.refusals.at("QUEUE_FULL").count, 2);
  EXPECT_EQ(summary.refusals.at("QUEUE_FULL").p99, absl::Milliseconds(9));
  EXPECT_THAT(summary.refusal_times, ElementsAre(absl::Milliseconds(1), absl::Milliseconds(9)));
  EXPECT_EQ(summary.failures.at("UNAVAILABLE"), 1);
  EXPECT_EQ(summary.given_up, 1);
  EXPECT_TRUE(summary.history_is_right());
}

TEST(Summary, LatencyPercentilesAreExact) {
  History history{.elapsed = absl::Seconds(100)};
  for (int i = 100; i >= 1; --i) history.records.push_back(Finished(absl::Milliseconds(i)));
  const Distribution latency = Summarize(history, {}).latency;
  EXPECT_EQ(latency.p50, absl::Milliseconds(50));
  EXPECT_EQ(latency.p90, absl::Milliseconds(90));
  EXPECT_EQ(latency.p95, absl::Milliseconds(95));
  EXPECT_EQ(latency.p99, absl::Milliseconds(99));
  EXPECT_EQ(latency.max, absl::Milliseconds(100));
  EXPECT_EQ(latency.mean, absl::Microseconds(50500));
}

TEST(Summary, PredictionsAreHeldAgainstTheRealTimes) {
  History history = WithLate(3, 0);
  for (const int i : {0, 1, 2})
    history.records[static_cast<size_t>(i)].real_time = absl::Seconds(10);
  history.records[0].predicted_time = absl::Seconds(11);
  history.records[1].predicted_time = absl::Seconds(8);
  history.records[2].predicted_time = absl::Seconds(15);
  const LoadSummary summary = Summarize(history, {});
  EXPECT_NEAR(*summary.prediction_error_median, 0.2, 1e-9);
  EXPECT_NEAR(*summary.prediction_error_p90, 0.5, 1e-9);
  EXPECT_EQ(Summarize(WithLate(3, 0), {}).prediction_error_median, std::nullopt);
}

// 100 rows in calls of 10 and 100 rows in calls of 2: 60 calls.
TEST(Summary, RowsPerCallWeighsCallsAndNotRequests) {
  History history = WithLate(2, 0);
  history.records[0].unet_rows = history.records[1].unet_rows = 100;
  history.records[0].mean_batch_rows = 10;
  history.records[1].mean_batch_rows = 2;
  EXPECT_NEAR(*Summarize(history, {}).rows_per_unet_call, 200.0 / 60, 1e-9);
}

TEST(Summary, AnEmptyRunHasNoFigures) {
  const LoadSummary summary = Summarize({}, kTwoSeconds);
  EXPECT_EQ(summary.latency.count, 0);
  EXPECT_EQ(summary.goodput, 0);
  EXPECT_FALSE(summary.verdict->valid);
  EXPECT_THAT(summary.refusals, IsEmpty());
}

TEST(FormatTime, HasThreeDigits) {
  EXPECT_EQ(FormatTime(absl::Microseconds(431)), "0.43 ms");
  EXPECT_EQ(FormatTime(absl::Microseconds(43140)), "43.1 ms");
  EXPECT_EQ(FormatTime(absl::Milliseconds(999)), "999 ms");
  EXPECT_EQ(FormatTime(absl::Milliseconds(1234)), "1.23 s");
  EXPECT_EQ(FormatTime(absl::Seconds(100)), "100 s");
}

}  // namespace
}  // namespace image_variations::client
