#include "server/admission.h"

#include <atomic>
#include <thread>
#include <type_traits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

static_assert(!std::is_copy_constructible_v<AdmissionTicket>);
static_assert(!std::is_copy_assignable_v<AdmissionTicket>);
static_assert(std::is_nothrow_move_constructible_v<AdmissionTicket>);

constexpr absl::Time kNow = absl::UnixEpoch();
constexpr absl::Time kNever = absl::InfiniteFuture();

absl::Time In(absl::Duration time) { return kNow + time; }

// Takes this long on the engine, alone or not.
RequestCost Work(absl::Duration time) {
  return {.bytes = 100, .samples = 1, .unet_rows = 10, .alone_time = time, .shared_time = time};
}

class Gate : public AdmissionGate {
 public:
  explicit Gate(AdmissionOptions options = {}) : AdmissionGate(options) { Open(); }

  absl::StatusOr<AdmissionTicket> Ask(const RequestCost& cost, absl::Time deadline = kNever) {
    return Enter(cost, Priority::kInteractive, deadline, kNow);
  }
  AdmissionTicket Admit(const RequestCost& cost, absl::Time deadline = kNever) {
    return Ask(cost, deadline).value();
  }
};

TEST(AdmissionGate, IsClosedWithStartingUntilOpened) {
  AdmissionGate gate({});
  const auto refused = gate.Enter(Work(absl::Seconds(1)), Priority::kInteractive, kNever, kNow);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(refused.status()), "STARTING");
  EXPECT_TRUE(RetryDelayOf(refused.status()));
}

TEST(AdmissionGate, GivesItsWhyWhenClosed) {
  Gate gate;
  gate.Close(MakeError(absl::StatusCode::kUnavailable, reason::kDraining, "bye"));
  EXPECT_EQ(ReasonOf(gate.Ask(Work(absl::Seconds(1))).status()), "DRAINING");
}

TEST(AdmissionGate, TicketGivesItsShareBack) {
  Gate gate({.max_requests = 1});
  {
    const AdmissionTicket ticket = gate.Admit(Work(absl::Seconds(1)));
    EXPECT_EQ(ReasonOf(gate.Ask(Work(absl::Seconds(1))).status()), "QUEUE_FULL");
  }
  EXPECT_TRUE(gate.Ask(Work(absl::Seconds(1))).ok());
}

TEST(AdmissionGate, MovedTicketGivesItsShareBackOnce) {
  Gate gate;
  AdmissionTicket first = gate.Admit(Work(absl::Seconds(1)));
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
      {{.max_unet_rows_ahead = 19}, "unet_rows"},
  };
  for (const auto& [options, resource] : cases) {
    Gate gate(options);
    const AdmissionTicket first = gate.Admit(Work(absl::Seconds(3)));
    const absl::Status refused = gate.Ask(Work(absl::Seconds(1))).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << resource;
    EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL") << resource;
    EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr(std::string(resource)));
    EXPECT_EQ(RetryDelayOf(refused), absl::Seconds(3)) << resource;
  }
}

TEST(AdmissionGate, RequestThatNeverFitsHasNoRetry) {
  Gate gate({.max_bytes = 99});
  const absl::Status refused = gate.Ask(Work(absl::Seconds(1))).status();
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
}

TEST(AdmissionGate, DeadlineThatHasPassedIsTold) {
  Gate gate;
  const absl::Status refused = gate.Ask(Work(absl::Seconds(1)), kNow).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_PASSED");
}

TEST(AdmissionGate, DeadlineThatTheRequestAloneMissesHasNoRetry) {
  Gate gate;
  const absl::Status refused = gate.Ask(Work(absl::Seconds(10)), In(absl::Seconds(9))).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_UNREACHABLE");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
}

TEST(AdmissionGate, DeadlineMissedBehindOthersSaysWhenToComeBack) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(absl::Seconds(8)), In(absl::Seconds(9)));
  const absl::Status refused = gate.Ask(Work(absl::Seconds(5)), In(absl::Seconds(10))).status();
  EXPECT_EQ(ReasonOf(refused), "DEADLINE_UNREACHABLE");
  EXPECT_EQ(RetryDelayOf(refused), absl::Seconds(3));
}

TEST(AdmissionGate, EarlierDeadlineGoesFirstAndIsAdmitted) {
  Gate gate;
  const AdmissionTicket later = gate.Admit(Work(absl::Seconds(8)), In(absl::Seconds(30)));
  const AdmissionTicket sooner = gate.Admit(Work(absl::Seconds(5)), In(absl::Seconds(6)));
  EXPECT_EQ(sooner.forecast().start, absl::ZeroDuration());
  EXPECT_EQ(sooner.forecast().samples_ahead, 0);
}

TEST(AdmissionGate, NewcomerMayNotMakeAnAdmittedRequestLate) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(absl::Seconds(8)), In(absl::Seconds(10)));
  const absl::Status refused = gate.Ask(Work(absl::Seconds(5)), In(absl::Seconds(6))).status();
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_EQ(RetryDelayOf(refused), absl::Seconds(3));
}

TEST(AdmissionGate, ForecastCountsWhatIsAhead) {
  Gate gate;
  const AdmissionTicket first = gate.Admit(Work(absl::Seconds(8)));
  const AdmissionTicket second = gate.Admit(Work(absl::Seconds(5)));
  EXPECT_EQ(second.forecast().start, absl::Seconds(8));
  EXPECT_EQ(second.forecast().finish, absl::Seconds(13));
  EXPECT_EQ(second.forecast().samples_ahead, 1);
}

TEST(AdmissionGate, ProgressMakesRoom) {
  Gate gate({.max_unet_rows_ahead = 15});
  AdmissionTicket first = gate.Admit(Work(absl::Seconds(8)));
  ASSERT_FALSE(gate.Ask(Work(absl::Seconds(1))).ok());
  first.ReportProgress(1, 2);
  const AdmissionTicket second = gate.Admit(Work(absl::Seconds(1)));
  EXPECT_EQ(second.forecast().start, absl::Seconds(4));
}

TEST(AdmissionGate, InteractiveGoesBeforeBatch) {
  Gate gate;
  const auto batch = gate.Enter(Work(absl::Seconds(100)), Priority::kBatch, kNever, kNow);
  const AdmissionTicket interactive = gate.Admit(Work(absl::Seconds(1)));
  EXPECT_EQ(interactive.forecast().start, absl::ZeroDuration());
}

TEST(AdmissionGate, WaitUntilEmptyEndsWithTheLastTicket) {
  Gate gate;
  AdmissionTicket ticket = gate.Admit(Work(absl::Seconds(1)));
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
        const auto ticket = gate.Ask(Work(absl::ZeroDuration()));
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
  request.plan =
      std::make_shared<const SamplerPlan>(SamplerPlan{.steps = std::vector<SamplerStep>(10)});
  return request;
}

TEST(CostOf, CountsRowsOfAllSamplesStepsAndGuidance) {
  EXPECT_EQ(CostOf(FourSamplesOfTenSteps(), 0, StepCostModel(), 16).unet_rows, 4 * 10 * 2);
}

TEST(CostOf, BytesAreEncodedDecodedAndResults) {
  const ValidRequest request = FourSamplesOfTenSteps();
  const int64_t result = 3 * 64 * 64 + WorstCaseEncodedBytes(ImageFormat::kPng, 64, 64, 95);
  EXPECT_EQ(CostOf(request, 500, StepCostModel(), 16).bytes, 500 + 1000 + 4 * result);
}

TEST(CostOf, IsZeroTimeWhileNothingWasMeasured) {
  const RequestCost cost = CostOf(FourSamplesOfTenSteps(), 0, StepCostModel(), 16);
  EXPECT_EQ(cost.alone_time, absl::ZeroDuration());
  EXPECT_EQ(cost.shared_time, absl::ZeroDuration());
}

TEST(CostOf, FreeRowsAreSharedProportionalOnesAreNot) {
  StepCostModel proportional, flat;
  for (const int rows : {1, 2, 4, 8, 16}) {
    proportional.Observe(64, rows, absl::Seconds(rows));
    flat.Observe(64, rows, absl::Seconds(1));
  }
  const ValidRequest request = FourSamplesOfTenSteps();
  const double slow = absl::ToDoubleSeconds(CostOf(request, 0, proportional, 16).shared_time);
  const double fast = absl::ToDoubleSeconds(CostOf(request, 0, flat, 16).shared_time);
  EXPECT_NEAR(slow, 80 + 4 * 3.2, 5);     // rows, and what the VAE takes
  EXPECT_NEAR(fast, 80 / 16.0 + 0.8, 1);  // sixteen rows for the time of one
}

}  // namespace
}  // namespace image_variations
