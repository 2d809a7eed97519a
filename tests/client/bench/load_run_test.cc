#include "client/bench/load_run.h"

#include <algorithm>
#include <atomic>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/bench/virtual_server.h"

namespace image_variations::client {
namespace {

const std::vector<VariationRequest> kOneKind = {{.image = "picture", .seed = 1}};

int CountFinished(const History& history) {
  return static_cast<int>(
      std::count_if(history.records.begin(), history.records.end(),
                    [](const RequestRecord& record) { return record.finished(); }));
}

TEST(LoadRun, AnIdleServersLatencyIsItsServiceTime) {
  VirtualServer server({.workers = 1000});
  const History history = RunLoad({.pacer = {.rate = 10, .max_requests = 50}}, kOneKind, server);
  ASSERT_EQ(history.records.size(), 50u);
  for (const RequestRecord& record : history.records) {
    EXPECT_EQ(record.sent, record.due);
    EXPECT_EQ(record.latency(), absl::Milliseconds(100));
    EXPECT_EQ(record.real_time, absl::Milliseconds(100));
    EXPECT_EQ(record.attempts, 1);
  }
  EXPECT_EQ(history.elapsed, history.records.back().ended);
}

// A server that answers in no time, but the sender is held up for 10 s by the third request. What
// was due meanwhile was sent late and answered at once: measured from its sending it would look
// perfect, and hide that callers waited for seconds.
TEST(LoadRun, LatencyCountsFromWhenARequestWasDueIfTheSenderIsLate) {
  VirtualServer server(
      {.workers = 1000,
       .service_time = [](int64_t) { return absl::Milliseconds(1); },
       .sending_time =
           [](int64_t id) { return id == 2 ? absl::Seconds(10) : absl::ZeroDuration(); }});
  const History history = RunLoad({.pacer = {.rate = 10, .max_requests = 100}}, kOneKind, server);
  const absl::Duration held_up_until = history.records[2].due + absl::Seconds(10);
  int late = 0;
  for (size_t i = 3; i < history.records.size(); ++i) {
    const RequestRecord& record = history.records[i];
    if (record.due >= held_up_until) continue;
    ++late;
    EXPECT_EQ(record.sent, held_up_until);
    EXPECT_EQ(record.latency(), held_up_until - record.due + absl::Milliseconds(1));
  }
  EXPECT_GT(late, 70);
}

TEST(LoadRun, TheOpenLoopDoesNotWaitForTheServer) {
  VirtualServer server({.service_time = [](int64_t) { return absl::Seconds(100); }});
  const History history = RunLoad({.pacer = {.rate = 10, .max_requests = 20}}, kOneKind, server);
  for (const RequestRecord& record : history.records) EXPECT_EQ(record.sent, record.due);
  EXPECT_EQ(server.most_at_a_time(), 20);
}

TEST(LoadRun, TheClosedLoopKeepsItsCallersBusyAndNoMore) {
  VirtualServer server({.workers = 3});
  const History history = RunLoad({.pacer = {.scenario = Scenario::kClosedLoop,
                                             .concurrency = 3,
                                             .duration = absl::Seconds(2)}},
                                  kOneKind, server);
  EXPECT_EQ(server.most_at_a_time(), 3);
  EXPECT_EQ(history.records.size(), 60u);
  EXPECT_EQ(history.elapsed, absl::Seconds(2));
}

TEST(LoadRun, OfflineSendsEverythingAtOnce) {
  VirtualServer server({});
  const History history =
      RunLoad({.pacer = {.scenario = Scenario::kOffline, .max_requests = 7}}, kOneKind, server);
  EXPECT_EQ(server.most_at_a_time(), 7);
  EXPECT_EQ(history.elapsed, absl::Milliseconds(700));
}

TEST(LoadRun, ARunLastsItsDurationIfItsLastAnswerIsEarlier) {
  VirtualServer server({.workers = 10});
  EXPECT_EQ(
      RunLoad({.pacer = {.rate = 1, .duration = absl::Seconds(60)}}, kOneKind, server).elapsed,
      absl::Seconds(60));
}

// p90 can be judged by 44 requests if none is late, 64 if one is.
TEST(LoadRun, ARunWithATargetGoesOnUntilItCanBeJudged) {
  const LoadOptions options = {.pacer = {.rate = 1, .duration = absl::Seconds(10)},
                               .targets = {.latency = absl::Seconds(1), .percentile = 90}};
  VirtualServer quick({.workers = 100});
  EXPECT_EQ(RunLoad(options, kOneKind, quick).records.size(), 44u);
  VirtualServer late_once({.workers = 100, .service_time = [](int64_t id) {
                             return absl::Milliseconds(id == 3 ? 1001 : 100);
                           }});
  EXPECT_EQ(RunLoad(options, kOneKind, late_once).records.size(), 64u);
}

TEST(LoadRun, ARunThatMissesItsTargetGoesOnNoLongerThanToSeeIt) {
  VirtualServer slow({.workers = 1000, .service_time = [](int64_t) { return absl::Seconds(2); }});
  const History history = RunLoad({.pacer = {.rate = 1, .duration = absl::Seconds(10)},
                                   .targets = {.latency = absl::Seconds(1), .percentile = 90}},
                                  kOneKind, slow);
  EXPECT_LT(history.records.size(), 30u);
}

TEST(LoadRun, ARunThatCanBeJudgedEarlyStillLastsItsDuration) {
  VirtualServer server({.workers = 100});
  const History history = RunLoad({.pacer = {.rate = 100, .duration = absl::Seconds(10)},
                                   .targets = {.latency = absl::Seconds(1), .percentile = 90}},
                                  kOneKind, server);
  EXPECT_GE(history.elapsed, absl::Seconds(10));
  EXPECT_LT(history.elapsed, absl::Milliseconds(10'100)) << "the last one's service time";
  EXPECT_NEAR(static_cast<double>(history.records.size()), 1000, 100);
}

TEST(LoadRun, DeadlinesCountFromWhenARequestIsDue) {
  VirtualServer server({.service_time = [](int64_t) { return absl::Seconds(1); }});
  const History history = RunLoad({.pacer = {.scenario = Scenario::kOffline, .max_requests = 4},
                                   .deadline = absl::Milliseconds(2500)},
                                  kOneKind, server);
  EXPECT_EQ(CountFinished(history), 2);
  EXPECT_EQ(history.records[3].reason, "DEADLINE_EXCEEDED");
  EXPECT_EQ(history.records[3].ended, absl::Milliseconds(2500));
  EXPECT_FALSE(history.records[3].refused);
}

TEST(LoadRun, ARefusalIsTheAnswerUnlessRetriesAreAskedFor) {
  VirtualServer server({.max_requests = 1});
  const History history =
      RunLoad({.pacer = {.scenario = Scenario::kOffline, .max_requests = 3}}, kOneKind, server);
  EXPECT_EQ(CountFinished(history), 1);
  EXPECT_TRUE(history.records[1].refused);
  EXPECT_EQ(history.records[1].reason, "QUEUE_FULL");
  EXPECT_EQ(history.records[1].time_to_answer, absl::Milliseconds(1));
}

TEST(LoadRun, ARetryComesWhenTheServerSaidAndItsLatencyCountsFromTheFirstAttempt) {
  VirtualServer server({.max_requests = 1});
  const History history = RunLoad(
      {.pacer = {.scenario = Scenario::kOffline, .max_requests = 2}, .retry = {.max_attempts = 2}},
      kOneKind, server);
  EXPECT_EQ(CountFinished(history), 2);
  const RequestRecord& second = history.records[1];
  EXPECT_EQ(second.attempts, 2);
  EXPECT_EQ(second.retries_admitted, 1);
  EXPECT_EQ(second.reason, "");
  EXPECT_FALSE(second.refused);
  EXPECT_GE(second.latency(), absl::Milliseconds(1101));
  EXPECT_LE(second.latency(), absl::Milliseconds(1351));
  EXPECT_EQ(server.requests()[1].request_id, server.requests()[2].request_id);
}

TEST(LoadRun, EveryRequestHasAnIdOfItsOwn) {
  VirtualServer server({});
  RunLoad({.pacer = {.rate = 100, .max_requests = 50}}, kOneKind, server);
  std::set<std::string> ids;
  for (const VariationRequest& request : server.requests()) ids.insert(request.request_id);
  EXPECT_EQ(ids.size(), 50u);
}

TEST(LoadRun, TheSameSeedSendsTheSameRequests) {
  std::vector<VariationRequest> kinds;
  for (int i = 0; i < 8; ++i) kinds.push_back({.image = "picture", .seed = i});
  VirtualServer first({}), second({.workers = 2});
  RunLoad({.pacer = {.rate = 5, .max_requests = 40}}, kinds, first);
  RunLoad({.pacer = {.rate = 50, .max_requests = 40}}, kinds, second);
  std::set<int64_t> seeds;
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(first.requests()[i].seed, second.requests()[i].seed);
    seeds.insert(*first.requests()[i].seed);
  }
  EXPECT_EQ(seeds.size(), 8u);
}

TEST(LoadRun, ASecondAnswerIsNoticed) {
  VirtualServer server({.answers = [](int64_t id) { return id == 3 ? 2 : 1; }});
  const History history = RunLoad({.pacer = {.rate = 1, .max_requests = 10}}, kOneKind, server);
  EXPECT_EQ(history.surplus_answers, 1);
  EXPECT_EQ(CountFinished(history), 10);
}

TEST(LoadRun, AMissingAnswerIsNoticedAfterItsDeadlineAndGrace) {
  VirtualServer server({.answers = [](int64_t id) { return id == 3 ? 0 : 1; }});
  const History history = RunLoad(
      {.pacer = {.rate = 1, .max_requests = 10}, .deadline = absl::Seconds(5)}, kOneKind, server);
  EXPECT_FALSE(history.records[3].answered);
  EXPECT_EQ(CountFinished(history), 9);
}

TEST(LoadRun, EqualRequestsAreComparedByTheirBytes) {
  VirtualServer server({.make_image = [](int64_t id) { return id == 7 ? "other" : "image"; }});
  const std::vector<VariationRequest> kinds = {{.image = "picture", .sample_count = 2}};
  const History history =
      RunLoad({.pacer = {.rate = 1, .max_requests = 10}, .check_bytes = true}, kinds, server);
  EXPECT_EQ(history.compared_variations, 18);
  EXPECT_EQ(history.differing_variations, 2);
}

TEST(LoadRun, AnInterruptCancelsWhatRunsAndSendsNothingMore) {
  VirtualServer server({.service_time = [](int64_t) { return absl::Seconds(100); }});
  std::atomic<bool> interrupted = false;
  const History history =
      RunLoad({.pacer = {.rate = 10, .duration = absl::Seconds(60)}}, kOneKind, server,
              {.interrupted = &interrupted, .on_progress = [&](const LoadProgress& progress) {
                 interrupted = progress.elapsed >= absl::Seconds(2);
               }});
  EXPECT_TRUE(history.interrupted);
  EXPECT_NEAR(static_cast<double>(history.records.size()), 20, 10);
  EXPECT_LT(history.elapsed, absl::Seconds(3));
  for (const RequestRecord& record : history.records) EXPECT_EQ(record.reason, "CANCELLED");
}

TEST(LoadRun, AShareOfTheRequestsIsGivenUpOnTheWay) {
  VirtualServer server({.workers = 100});
  const History history = RunLoad(
      {.pacer = {.rate = 100, .max_requests = 1000}, .cancel_share = 0.2}, kOneKind, server);
  const auto given_up = std::count_if(history.records.begin(), history.records.end(),
                                      [](const RequestRecord& record) {
                                        return record.given_up && record.reason == "CANCELLED" &&
                                               record.latency() < absl::Milliseconds(100);
                                      });
  EXPECT_NEAR(static_cast<double>(given_up), 200, 40);
  EXPECT_EQ(CountFinished(history) + given_up, 1000);
}

}  // namespace
}  // namespace image_variations::client
