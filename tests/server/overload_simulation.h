// Gate and engine under more requests than the device can serve: the real AdmissionGate, Engine and
// StepBatcher, a virtual clock, and a device whose UNet call of b rows takes a + (1 - a) b seconds.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace image_variations {

// a: the share of a call of one row that more rows do not pay again.
struct DeviceProfile {
  absl::string_view name;
  double base = 0;
};
inline constexpr DeviceProfile kCpu{"CPU", 0.05};
inline constexpr DeviceProfile kA100{"A100", 0.28};
inline constexpr DeviceProfile kH100{"H100", 0.65};

// Poisson arrivals of requests for one unguided picture of 20 or 50 steps, as likely one as the
// other, each with three times its time alone until its deadline.
struct OverloadOptions {
  DeviceProfile device = kCpu;
  int devices = 1;  // of that profile
  double load = 1;  // of arrivals, by what one device can do one row at a time
  // In every other `load_period`; 0: the same.
  double other_load = 0;
  absl::Duration load_period = absl::Seconds(500);
  uint64_t seed = 1;
  int requests = 700;
  bool retries = false;     // who is refused comes back once, when it was told to
  double cancel_share = 0;  // of the admitted, at a random time before their deadline
  // Every so often a batch request of 50 steps without deadline, to be done within batch_target
  // from its admission; who is refused comes back when it was told to, as often as needed.
  absl::Duration batch_every = absl::InfiniteDuration();
  absl::Duration batch_target = absl::Minutes(30);
  double decode_seconds = 0;   // of a picture
  double embed_seconds = 0;    // of a request
  double mispredicted_by = 1;  // calls take so many times what they took at warm-up, from then on
};

struct OverloadReport {
  int offered = 0;
  int on_time = 0;
  int admitted = 0;
  int cancelled = 0;         // of those, before their end
  int refused = 0;           // and told to come back
  int retries = 0;           // of those, who came back ...
  int retries_admitted = 0;  // ... and was let in
  int batch_offered = 0;
  int batch_in_bound = 0;
  double longest_batch = 0;  // from offered to done, in seconds
  // Of each request that was cancelled or expired: calls for it that ran then, or began later.
  std::vector<int> wasted_steps;
  // Of those who were served: |real - predicted| / predicted time.
  std::vector<double> prediction_errors;
  double unet_rows_per_call = 0;

  double on_time_share() const { return static_cast<double>(on_time) / offered; }
  double admitted_on_time_share() const { return static_cast<double>(on_time) / admitted; }
  // The same of those whose callers stayed.
  double kept_share() const { return static_cast<double>(on_time) / (admitted - cancelled); }
};

OverloadReport SimulateOverload(const OverloadOptions&);

// The value that `share` of `values` do not exceed; 0 of none.
template <typename T>
T Percentile(std::vector<T> values, double share) {
  if (values.empty()) return T{};
  const auto place = static_cast<size_t>(share * static_cast<double>(values.size() - 1));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace image_variations
