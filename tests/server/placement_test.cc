// Which of several devices the gate lets a request in to.
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/admission.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();
constexpr LatentSize kSize{8, 8};

// Takes so many seconds on the first device.
AdmissionRequest Work(int seconds) {
  return {.bytes = 100, .shape = {.samples = 1, .steps = seconds, .rows = 1, .size = kSize}};
}

// Two devices; the second one takes so many times as long.
class TwoDevices : public AdmissionGate {
 public:
  explicit TwoDevices(double slower = 1, AdmissionOptions options = {})
      : AdmissionGate(Twice(options)) {
    for (const double scale : {1.0, slower}) {
      CostModel& cost = costs_.emplace_back();
      for (const int rows : {1, 2, 4}) {
        cost.unet.Observe(kSize.area(), rows, absl::Seconds(scale * rows));
      }
    }
    Open();
  }
  absl::StatusOr<AdmissionTicket> Ask(const AdmissionRequest& request, absl::Time now = kNow) {
    return Enter(request, costs_, now);
  }

 private:
  static AdmissionOptions Twice(AdmissionOptions options) {
    options.devices = 2;
    return options;
  }
  std::vector<CostModel> costs_;
};

AdmissionRequest Due(AdmissionRequest request, absl::Duration time) {
  request.deadline = kNow + time;
  return request;
}

TEST(Placement, RequestGoesToTheDeviceThatIsIdle) {
  TwoDevices gate;
  const AdmissionTicket first = gate.Ask(Work(10)).value();
  const AdmissionTicket second = gate.Ask(Work(10)).value();
  EXPECT_EQ(first.device(), 0);
  EXPECT_EQ(second.device(), 1);
  EXPECT_EQ(second.forecast().finish, absl::Seconds(10));
  EXPECT_EQ(second.forecast().samples_ahead, 0);
  EXPECT_EQ(gate.requests(), 2);
}

TEST(Placement, RequestGoesWhereItIsDoneFirst) {
  TwoDevices gate(/*slower=*/3);
  const AdmissionTicket first = gate.Ask(Work(10)).value();
  const AdmissionTicket second = gate.Ask(Work(10)).value();  // there it would take 30 s alone
  const AdmissionTicket third = gate.Ask(Work(10)).value();
  EXPECT_EQ(first.device(), 0);
  EXPECT_EQ(second.device(), 0);
  EXPECT_NE(third.device(), second.device());
}

TEST(Placement, RequestGoesOnlyWhereItMakesNobodyLate) {
  TwoDevices gate(/*slower=*/3);
  const AdmissionTicket first = gate.Ask(Due(Work(10), absl::Seconds(10.1))).value();
  const AdmissionTicket second = gate.Ask(Due(Work(1), absl::Seconds(5))).value();
  EXPECT_EQ(second.device(), 1);
  EXPECT_EQ(second.forecast().finish, absl::Seconds(3));
}

TEST(Placement, WhatHasEndedMakesRoomOnItsDevice) {
  TwoDevices gate;
  const AdmissionTicket first = gate.Ask(Work(10)).value();
  std::optional<AdmissionTicket> second = gate.Ask(Work(10)).value();
  second.reset();
  EXPECT_EQ(gate.Ask(Work(10))->device(), 1);
  EXPECT_EQ(gate.requests(), 1);
}

TEST(Placement, LimitsAreThoseOfAllDevices) {
  TwoDevices gate(1, {.max_requests = 2});
  const AdmissionTicket first = gate.Ask(Work(10)).value();
  const AdmissionTicket second = gate.Ask(Work(4)).value();
  const auto refused = gate.Ask(Work(1));
  EXPECT_EQ(ReasonOf(refused.status()), "QUEUE_FULL");
  EXPECT_EQ(RetryDelayOf(refused.status()), absl::Seconds(4));  // the second one's end
}

TEST(Placement, RefusedByAllDevicesIsToldToComeBackToTheSoonest) {
  TwoDevices gate;
  const AdmissionTicket first = gate.Ask(Due(Work(20), absl::Seconds(20.1))).value();
  const AdmissionTicket second = gate.Ask(Due(Work(10), absl::Seconds(10.1))).value();
  const auto refused = gate.Ask(Due(Work(5), absl::Seconds(6)));
  ASSERT_FALSE(refused.ok());
  const absl::Duration delay = RetryDelayOf(refused.status()).value();
  EXPECT_GT(delay, absl::Seconds(7));  // the second device is free after 10 s, the first after 20
  EXPECT_LT(delay, absl::Seconds(14));
}

TEST(Placement, PromiseOfOneDeviceIsKeptThere) {
  TwoDevices gate;
  std::vector<AdmissionTicket> inside;
  const auto ask = [&](const std::string& id, absl::Time now) {
    AdmissionRequest request = Work(5);
    request.request_id = id;
    request.deadline = now + absl::Seconds(6);
    return gate.Ask(request, now);
  };
  absl::Time now = kNow;
  for (int round = 0; round < 8; ++round) {  // until promises count
    inside.clear();
    inside.push_back(ask("a", now).value());
    inside.push_back(ask("b", now).value());
    const absl::Duration delay = RetryDelayOf(ask("c", now).status()).value();
    inside.clear();
    now += delay;
    EXPECT_TRUE(ask("c", now).ok());
    now += absl::Seconds(100);
  }
  inside.push_back(ask("a", now).value());
  inside.push_back(ask("b", now).value());
  const absl::Duration delay = RetryDelayOf(ask("c", now).status()).value();
  inside.clear();
  // One device keeps its place for c.
  inside.push_back(ask("d", now + delay - absl::Milliseconds(1)).value());
  EXPECT_FALSE(ask("e", now + delay - absl::Milliseconds(1)).ok());
  EXPECT_TRUE(ask("c", now + delay).ok());
}

}  // namespace
}  // namespace image_variations
