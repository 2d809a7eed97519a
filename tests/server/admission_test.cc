#include "server/admission.h"

#include <atomic>
#include <thread>
#include <type_traits>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc_status.h"
#include "tests/server/test_gate.h"

namespace image_variations {
namespace {

static_assert(!std::is_copy_constructible_v<AdmissionTicket>);
static_assert(!std::is_copy_assignable_v<AdmissionTicket>);
static_assert(std::is_nothrow_move_constructible_v<AdmissionTicket>);

TEST(AdmissionGate, IsClosedWithStartingUntilOpened) {
  AdmissionGate gate({});
  const auto refused = gate.Enter(Work(1), {&Cost(), 1}, kNow);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(refused.status()), "STARTING");
  EXPECT_TRUE(RetryDelayOf(refused.status()));
}

TEST(AdmissionGate, GivesItsWhyWhenClosed) {
  Gate gate;
  gate.Close(MakeError(absl::StatusCode::kUnavailable, reason::kDraining, "bye"));
  EXPECT_EQ(ReasonOf(gate.Ask(Work(1)).status()), "DRAINING");
}

TEST(AdmissionGate, TicketGivesItsShareBack) {
  Gate gate({.max_requests = 1});
  {
    const AdmissionTicket ticket = gate.Admit(Work(1));
    EXPECT_EQ(ReasonOf(gate.Ask(Work(1)).status()), "QUEUE_FULL");
  }
  EXPECT_TRUE(gate.Ask(Work(1)).ok());
}

TEST(AdmissionGate, HeldBytesCountAndNobodyWaitsForThem) {
  Gate gate({.max_bytes = 250});
  {
    HeldBytes held = gate.Hold(200).value();
    EXPECT_EQ(ReasonOf(gate.Ask(Work(1)).status()), "QUEUE_FULL");
    EXPECT_EQ(ReasonOf(gate.Hold(51).status()), "QUEUE_FULL");
    EXPECT_TRUE(RetryDelayOf(gate.Hold(51).status()));
    EXPECT_FALSE(RetryDelayOf(gate.Hold(251).status()));  // it never fits
    const HeldBytes moved = std::move(held);
    EXPECT_EQ(gate.bytes(), 200);
    EXPECT_TRUE(gate.WaitUntilEmpty(absl::ZeroDuration()));
  }
  EXPECT_TRUE(gate.Ask(Work(1)).ok());
  EXPECT_EQ(gate.bytes(), 0);
}

TEST(AdmissionGate, CountsThePaddingOfCalls) {
  CostModel cost{.unet = StepCostModel({1, 2, 4, 8})};
  for (const int rows : {1, 2, 4, 8}) {
    cost.unet.Observe(kSize.area(), rows, absl::Seconds(10 + rows));  // efficient: eight rows
  }
  Gate gate;
  AdmissionRequest five = Work(1);
  five.shape.samples = 5;
  EXPECT_EQ(gate.Enter(five, {&cost, 1}, kNow)->forecast().finish, absl::Seconds(18));
}

TEST(AdmissionGate, MovedTicketGivesItsShareBackOnce) {
  Gate gate;
  AdmissionTicket first = gate.Admit(Work(1));
  AdmissionTicket second = std::move(first);
  EXPECT_EQ(gate.requests(), 1);
  second = AdmissionTicket();
  EXPECT_EQ(gate.requests(), 0);
}

TEST(AdmissionGate, EachLimitRefusesAndNamesItself) {
  const struct {
    AdmissionOptions options;
    absl::string_view resource;
  } cases[] = {
      {{.max_requests = 1}, "requests"},
      {{.max_bytes = 199}, "bytes"},
      {{.max_samples = 1}, "samples"},
      {{.max_unet_rows_ahead = 3}, "unet_rows"},
  };
  for (const auto& [options, resource] : cases) {
    Gate gate(options);
    const AdmissionTicket first = gate.Admit(Work(3));
    const absl::Status refused = gate.Ask(Work(1)).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << resource;
    EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL") << resource;
    EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr(std::string(resource)));
    EXPECT_EQ(RetryDelayOf(refused), absl::Seconds(3)) << resource;
  }
}

TEST(AdmissionGate, RequestThatNeverFitsHasNoRetry) {
  Gate gate({.max_bytes = 99});
  const absl::Status refused = gate.Ask(Work(1)).status();
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
}

TEST(AdmissionGate, DeadlineThatHasPassedIsTold) {
  Gate gate;
  const absl::Status refused = gate.Ask(Work(1), kNow).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_PASSED");
}

TEST(AdmissionGate, DeadlineThatTheRequestAloneMissesHasNoRetry) {
  Gate gate;
  const absl::Status refused = gate.Ask(Work(10), In(absl::Seconds(9))).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_UNREACHABLE");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
}

TEST(AdmissionGate, DeadlineMissedBehindOthersSaysWhenToComeBack) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(8), In(absl::Seconds(9)));
  const absl::Status refused = gate.Ask(Work(5), In(absl::Seconds(10))).status();
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_UNREACHABLE");
  // After 3 seconds it would be just in time; with a margin of a tenth, after 4.
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryDelayOf(refused)), 4, 0.01);
}

TEST(AdmissionGate, EarlierDeadlineGoesFirstAndIsAdmitted) {
  Gate gate;
  const AdmissionTicket later = gate.Admit(Work(8), In(absl::Seconds(30)));
  const AdmissionTicket sooner = gate.Admit(Work(5), In(absl::Seconds(6)));
  EXPECT_EQ(sooner.forecast().start, absl::ZeroDuration());
  EXPECT_EQ(sooner.forecast().samples_ahead, 0);
}

TEST(AdmissionGate, NewcomerMayNotMakeAnAdmittedRequestLate) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(8), In(absl::Seconds(10)));
  const absl::Status refused = gate.Ask(Work(5), In(absl::Seconds(6))).status();
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  // Until the first is nearly done: at any time before, one of the two would be late.
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryDelayOf(refused)), 7.7, 0.01);
}

TEST(AdmissionGate, ForecastCountsWhatIsAhead) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(8));
  const AdmissionTicket second = gate.Admit(Work(5));
  EXPECT_EQ(second.forecast().start, absl::Seconds(8));
  EXPECT_EQ(second.forecast().finish, absl::Seconds(13));
  EXPECT_EQ(second.forecast().samples_ahead, 1);
}

TEST(AdmissionGate, ALongLineIsForetoldToItsEnd) {
  Gate gate({.max_requests = 1000});
  std::vector<AdmissionTicket> line;
  for (int i = 0; i < 600; ++i) line.push_back(gate.Admit(Work(1), In(absl::Seconds(1000 + i))));
  line.push_back(gate.Admit(Work(1), In(absl::Seconds(610.5))));  // goes behind 491 of them
  EXPECT_EQ(line[599].forecast().samples_ahead, 599);
  EXPECT_NEAR(absl::ToDoubleSeconds(line[599].forecast().start), 599, 1e-3);
  EXPECT_NEAR(absl::ToDoubleSeconds(line[599].forecast().finish), 600, 1e-3);
  EXPECT_EQ(line[600].forecast().samples_ahead, 491);
  EXPECT_NEAR(absl::ToDoubleSeconds(line[600].forecast().finish), 492, 1e-3);

  // Another caller's goes before all but the first: the last one admitted can wait 118 seconds.
  AdmissionRequest other = Work(117);
  other.caller = "other";
  other.only_asks = true;
  EXPECT_TRUE(gate.Ask(other, In(absl::Seconds(1000))).ok());
  other.shape.steps = 120;
  const absl::Status refused = gate.Ask(other, In(absl::Seconds(1000))).status();
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_TRUE(absl::StrContains(refused.ToString(), "1.4999"))
      << "seconds that it would be late: " << refused;
}

TEST(AdmissionGate, ProgressMakesRoom) {
  Gate gate({.max_unet_rows_ahead = 8});
  AdmissionTicket first = gate.Admit(Work(8));
  ASSERT_FALSE(gate.Ask(Work(1)).ok());
  first.ReportProgress({.steps_done = 4, .steps_total = 8, .samples_open = 1, .samples_fresh = 0});
  const AdmissionTicket second = gate.Admit(Work(1));
  EXPECT_EQ(second.forecast().start, absl::Seconds(4));
}

TEST(AdmissionGate, PicturesThatWaitForTheVaeStillTakeTime) {
  Gate gate;
  CostModel cost = Cost();
  cost.decode.Observe(kSize.area(), absl::Seconds(7));
  AdmissionTicket first = gate.Enter(Work(8), {&cost, 1}, kNow).value();
  first.ReportProgress({.steps_done = 8, .steps_total = 8, .samples_open = 1, .samples_fresh = 0});
  EXPECT_EQ(gate.Enter(Work(1), {&cost, 1}, kNow)->forecast().start, absl::Seconds(7));
}

TEST(AdmissionGate, InteractiveGoesBeforeBatch) {
  Gate gate;
  AdmissionRequest work = Work(100);
  work.priority = Priority::kBatch;
  const AdmissionTicket batch = gate.Admit(work);
  EXPECT_EQ(gate.Admit(Work(1)).forecast().start, absl::ZeroDuration());
}

TEST(AdmissionGate, BatchThatCouldHaveItsTargetKeepsIt) {
  Gate gate({.batch_target = absl::Seconds(100)});
  AdmissionRequest work = Work(80);
  work.priority = Priority::kBatch;
  const AdmissionTicket batch = gate.Admit(work);
  EXPECT_EQ(ReasonOf(gate.Ask(Work(21), In(absl::Seconds(50))).status()), "QUEUE_FULL");
  EXPECT_TRUE(gate.Ask(Work(15), In(absl::Seconds(50))).ok());
}

TEST(AdmissionGate, RequestWithoutDeadlineIsLetInHoweverLongTheLine) {
  Gate gate;
  std::vector<AdmissionTicket> tickets;
  for (int i = 0; i < 20; ++i) tickets.push_back(gate.Admit(Work(100)));
  EXPECT_EQ(tickets.back().forecast().finish, absl::Seconds(2000));
}

TEST(AdmissionGate, WhoOnlyAsksLeavesNothing) {
  Gate gate({.max_requests = 1});
  AdmissionRequest question = Work(5);
  question.only_asks = true;
  EXPECT_EQ(gate.Admit(question).forecast().finish, absl::Seconds(5));
  EXPECT_EQ(gate.requests(), 0);
}

TEST(AdmissionGate, PredictionsThatWereTooShortAreStretched) {
  Gate gate;
  absl::Time now = kNow;
  for (int i = 0; i < 8; ++i) {
    AdmissionTicket ticket = *gate.Ask(Work(10), kNever, now);
    now += absl::Seconds(i == 3 ? 40 : 20);  // twice as long as predicted, once more
    ticket.ReportServed(now, /*is_complete=*/true);
  }
  EXPECT_EQ(gate.slowdown(), 2);
  EXPECT_FALSE(gate.Ask(Work(10), now + absl::Seconds(19), now).ok());
  EXPECT_TRUE(gate.Ask(Work(10), now + absl::Seconds(20), now).ok());
}

TEST(AdmissionGate, OneRequestInTimeLetsPredictionsGo) {
  Gate gate;
  absl::Time now = kNow;
  for (int i = 0; i < 16; ++i) {
    AdmissionTicket ticket = *gate.Ask(Work(10), kNever, now);
    now += absl::Seconds(i == 12 ? 10 : 20);
    ticket.ReportServed(now, /*is_complete=*/true);
  }
  EXPECT_EQ(gate.slowdown(), 1);
}

TEST(AdmissionGate, RequestsThatWereCutShortSayNothingOfPredictions) {
  Gate gate;
  absl::Time now = kNow;
  for (int i = 0; i < 32; ++i) {
    const bool is_cut_short = i % 4 == 3;
    AdmissionTicket ticket = *gate.Ask(Work(10), kNever, now);
    now += absl::Seconds(is_cut_short ? 1 : 20);
    ticket.ReportServed(now, !is_cut_short);
  }
  EXPECT_EQ(gate.slowdown(), 2);
}

TEST(AdmissionGate, RequestsThatWereCutShortMakeRoom) {
  Gate gate({.max_unet_rows_ahead = 10});
  AdmissionTicket ticket = gate.Admit(Work(10));
  ticket.ReportServed(kNow, /*is_complete=*/false);
  EXPECT_TRUE(gate.Ask(Work(10)).ok());
}

// One second a row, give or take a tenth.
CostModel UnsteadyCost() {
  CostModel cost = Cost();
  for (int tick = 0; tick < 800; ++tick) {
    cost.pace.Observe(absl::Seconds(1), absl::Seconds(tick / 8 % 2 == 0 ? 0.95 : 1.05));
  }
  return cost;
}

AdmissionRequest Due(AdmissionRequest request, absl::Duration in) {
  request.deadline = In(in);
  return request;
}

TEST(AdmissionGate, OnAnUnsteadyDeviceThereIsAMargin) {
  Gate gate;
  const CostModel cost = UnsteadyCost();
  const auto first = gate.Enter(Due(Work(5), absl::Seconds(8)), {&cost, 1}, kNow);
  EXPECT_FALSE(gate.Enter(Due(Work(5), absl::Seconds(10.5)), {&cost, 1}, kNow).ok());
  EXPECT_TRUE(gate.Enter(Due(Work(5), absl::Seconds(11.5)), {&cost, 1}, kNow).ok());
}

TEST(AdmissionGate, WhoIsAloneNeedsNoMargin) {
  Gate gate;
  const CostModel cost = UnsteadyCost();
  EXPECT_TRUE(gate.Enter(Due(Work(10), absl::Seconds(10.5)), {&cost, 1}, kNow).ok());
}

TEST(AdmissionGate, PredictsTheCompanyThatOthersHadLately) {
  Gate gate;
  for (int i = 14; i >= 0; --i) {
    const absl::Time then = kNow - absl::Seconds(2 * i);
    AdmissionTicket gone = *gate.Ask(Work(4), then + absl::Seconds(10), then);
  }
  // Those who come are more urgent; what was promised is not touched by them.
  const AdmissionTicket ticket = gate.Admit(Work(10));
  EXPECT_GT(ticket.forecast().finish, absl::Seconds(15));
}

TEST(AdmissionGate, TheWayFromPicturesToAnswerTakesTimeToo) {
  Gate gate;
  absl::Time now = kNow;
  for (int i = 0; i < 100; ++i) {
    AdmissionTicket ticket = *gate.Ask(Work(2), kNever, now);
    ticket.ReportServed(now + absl::Seconds(2), /*is_complete=*/true);
    ticket.ReportAnswered(now + absl::Seconds(3));
    now += absl::Seconds(100);
  }
  EXPECT_FALSE(gate.Ask(Work(2), now + absl::Seconds(2.9), now).ok());
  const auto ticket = gate.Ask(Work(2), now + absl::Seconds(3.1), now);
  ASSERT_TRUE(ticket.ok());
  EXPECT_NEAR(absl::ToDoubleSeconds(ticket->forecast().finish), 3, 0.01);
  EXPECT_NEAR(absl::ToDoubleSeconds(ticket->forecast().answer), 1, 0.01);
}

TEST(AdmissionGate, WaitUntilEmptyEndsWithTheLastTicket) {
  Gate gate;
  AdmissionTicket ticket = gate.Admit(Work(1));
  EXPECT_FALSE(gate.WaitUntilEmpty(absl::ZeroDuration()));
  std::thread leaver([ticket = std::move(ticket)] {});
  leaver.join();
  EXPECT_TRUE(gate.WaitUntilEmpty(absl::InfiniteDuration()));
}

TEST(AdmissionGate, NeverHoldsMoreThanItsLimitUnderManyThreads) {
  constexpr int kLimit = 3;
  Gate gate({.max_requests = kLimit});
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 500; ++turn) {
        const auto ticket = gate.Ask(Work(1));
        if (!ticket.ok()) continue;
        const int now_inside = ++inside;
        int seen = most;
        while (seen < now_inside && !most.compare_exchange_weak(seen, now_inside)) {
        }
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, kLimit);
  EXPECT_EQ(gate.requests(), 0);
}

ValidRequest FourSamplesOfTenSteps() {
  ValidRequest request;
  request.sample_count = 4;
  request.guidance_scale = 3;
  request.width = request.height = 64;
  request.latent_area = 64;
  request.source.decode_bytes = 1000;
  request.unet_calls = 10;
  request.plan_bytes = 2000;
  return request;
}

TEST(ShapeOf, CountsRowsOfAllSamplesStepsAndGuidance) {
  const RequestShape shape = ShapeOf(FourSamplesOfTenSteps(), 8);
  EXPECT_EQ(shape.unet_rows(), 4 * 10 * 2);
  EXPECT_EQ(shape.size, kSize);
}

TEST(BytesOf, AreEncodedDecodedPlanAndResults) {
  const int64_t result = 3 * 64 * 64 + WorstCaseEncodedBytes(ImageFormat::kPng, 64, 64, 95);
  EXPECT_EQ(BytesOf(FourSamplesOfTenSteps(), 500), 500 + 2000 + 1000 + 4 * result);
}

TEST(AdmissionGate, PredictsNoTimeWhileNothingWasMeasured) {
  Gate gate;
  const CostModel nothing;
  EXPECT_EQ(gate.Enter(Work(10), {&nothing, 1}, kNow)->forecast().finish, absl::ZeroDuration());
}

TEST(AdmissionGate, FreeRowsAreSharedProportionalOnesAreNot) {
  Gate gate;
  CostModel flat;
  for (const int rows : {1, 2, 4}) flat.unet.Observe(kSize.area(), rows, absl::Seconds(1));
  AdmissionRequest four = Work(10);
  four.shape.samples = 4;
  four.only_asks = true;
  EXPECT_EQ(gate.Enter(four, {&flat, 1}, kNow)->forecast().finish, absl::Seconds(10));
  EXPECT_EQ(gate.Enter(four, {&Cost(), 1}, kNow)->forecast().finish, absl::Seconds(40));
}

}  // namespace
}  // namespace image_variations
