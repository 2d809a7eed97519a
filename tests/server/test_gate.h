// The gate before one device of known costs, for tests.
#pragma once

#include "absl/time/time.h"
#include "server/admission.h"

namespace image_variations {

inline constexpr absl::Time kNow = absl::UnixEpoch();
inline constexpr absl::Time kNever = absl::InfiniteFuture();

inline absl::Time In(absl::Duration time) { return kNow + time; }

inline constexpr LatentSize kSize{8, 8};

// One second a row, whatever the company.
inline const CostModel& Cost() {
  static const auto* const measured = [] {
    auto* cost = new CostModel;
    for (const int rows : {1, 2, 4}) cost->unet.Observe(kSize.area(), rows, absl::Seconds(rows));
    return cost;
  }();
  return *measured;
}

// Takes so many seconds on the engine.
inline AdmissionRequest Work(int seconds) {
  return {.bytes = 100, .shape = {.samples = 1, .steps = seconds, .rows = 1, .size = kSize}};
}

class Gate : public AdmissionGate {
 public:
  explicit Gate(AdmissionOptions options = {}) : AdmissionGate(options) { Open(); }

  absl::StatusOr<AdmissionTicket> Ask(AdmissionRequest request, absl::Time deadline = kNever,
                                      absl::Time now = kNow) {
    request.deadline = deadline;
    return Enter(request, {&Cost(), 1}, now);
  }
  AdmissionTicket Admit(const AdmissionRequest& request, absl::Time deadline = kNever) {
    return Ask(request, deadline).value();
  }
};

}  // namespace image_variations
