// Who was refused and told when to come back: there is room for them then.
#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "server/rpc_status.h"
#include "tests/server/test_gate.h"

namespace image_variations {
namespace {

AdmissionRequest Named(AdmissionRequest request, const std::string& id) {
  request.request_id = id;
  return request;
}

// A caller is refused, and comes back when it was told to.
void ComeBack(Gate& gate, absl::Time now) {
  const auto busy = gate.Ask(Work(8), now + absl::Seconds(9), now);
  const AdmissionRequest refused = Named(Work(5), "reliable");
  const auto delay = RetryDelayOf(gate.Ask(refused, now + absl::Seconds(6), now).status());
  ASSERT_TRUE(delay);
  gate.Ask(refused, now + *delay + absl::Seconds(6), now + *delay).IgnoreError();
}

TEST(RetryPromise, WhoComesBackWhenToldIsLetInBeforeOthers) {
  Gate gate;
  ComeBack(gate, kNow - absl::Seconds(100));
  AdmissionTicket first = gate.Admit(Work(8), In(absl::Seconds(9)));
  const AdmissionRequest refused = Named(Work(5), "back");
  const auto delay = RetryDelayOf(gate.Ask(refused, In(absl::Seconds(6))).status());
  ASSERT_TRUE(delay);
  // The time that was promised is nobody else's, ...
  EXPECT_FALSE(gate.Ask(Work(4), In(absl::Seconds(13))).ok());
  // ... and still free when it has come.
  first = AdmissionTicket();
  const absl::Time later = kNow + *delay;
  EXPECT_TRUE(gate.Ask(refused, later + absl::Seconds(6), later).ok());
}

TEST(RetryPromise, PromisesCountUntilTheFirstIsNotKept) {
  Gate gate;
  absl::Time now = kNow;
  for (const bool counts : {true, false}) {
    const auto busy = gate.Ask(Work(8), now + absl::Seconds(9), now);
    ASSERT_FALSE(gate.Ask(Named(Work(5), "a"), now + absl::Seconds(6), now).ok());
    EXPECT_EQ(gate.Ask(Work(4), now + absl::Seconds(13), now).ok(), !counts);
    now += absl::Seconds(100);
  }
}

TEST(RetryPromise, WhoGoesBehindThePromisedIsNotRefusedForThem) {
  CostModel slow;  // calls of three seconds: one of them is running when the promised one comes
  for (const int rows : {1, 2, 4}) slow.unet.Observe(kSize.area(), rows, absl::Seconds(3 * rows));
  Gate gate;
  const auto ask = [&](AdmissionRequest request, double now, double deadline) {
    request.deadline = In(absl::Seconds(now + deadline));
    return gate.Enter(request, {&slow, 1}, In(absl::Seconds(now)));
  };
  {
    const auto busy = ask(Work(3), 0, 9.5);
    ASSERT_TRUE(RetryDelayOf(ask(Named(Work(1), "promised"), 0, 3.5).status()));
  }
  EXPECT_FALSE(ask(Work(3), 1, 10).ok());
  EXPECT_TRUE(ask(Work(3), 1, std::numeric_limits<double>::infinity()).ok());
}

TEST(RetryPromise, WhoCannotBeKnownAgainIsPromisedNothing) {
  Gate gate;
  ComeBack(gate, kNow - absl::Seconds(100));
  const auto busy = gate.Ask(Work(8), In(absl::Seconds(9)));
  ASSERT_FALSE(gate.Ask(Work(5), In(absl::Seconds(6))).ok());
  EXPECT_TRUE(gate.Ask(Work(4), In(absl::Seconds(13))).ok());
}

TEST(RetryPromise, PromisesThatNobodyComesForStopToCount) {
  Gate gate;
  ComeBack(gate, kNow - absl::Seconds(100));
  absl::Time now = kNow;
  for (int i = 0; i < 10; ++i, now += absl::Seconds(100)) {
    const auto busy = gate.Ask(Work(8), now + absl::Seconds(9), now);
    ASSERT_FALSE(gate.Ask(Named(Work(5), "gone"), now + absl::Seconds(6), now).ok());
  }
  const auto busy = gate.Ask(Work(8), now + absl::Seconds(9), now);
  ASSERT_FALSE(gate.Ask(Named(Work(5), "gone"), now + absl::Seconds(6), now).ok());
  EXPECT_TRUE(gate.Ask(Work(4), now + absl::Seconds(13), now).ok());
}

}  // namespace
}  // namespace image_variations
