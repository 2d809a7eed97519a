// The gate in front of the engine's queue: says at once whether a request can be served, by what
// it costs and by when it must be done.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/step_cost.h"
#include "server/request_validator.h"

namespace image_variations {

struct AdmissionOptions {
  int max_requests = 256;
  int64_t max_bytes = int64_t{2} << 30;     // encoded, decoded and result pictures of all requests
  int max_samples = 1024;                   // waiting or running
  int64_t max_unet_rows_ahead = 1'000'000;  // still to be computed
  // By when a request without a deadline is planned to be done: as StepBatcherOptions.
  absl::Duration interactive_target = absl::Minutes(2);
  absl::Duration batch_target = absl::Minutes(30);
};

// What a request takes. The times are zero while the engine's step cost is not known.
struct RequestCost {
  int64_t bytes = 0;
  int samples = 0;
  int64_t unet_rows = 0;
  absl::Duration alone_time;   // from first step to last picture when nothing else runs
  absl::Duration shared_time;  // of the engine, when it shares calls of efficient size
};

RequestCost CostOf(const ValidRequest&, int64_t encoded_bytes, const StepCostModel&, int max_rows);

// When an admitted request is predicted to run, as seen from now.
struct AdmissionForecast {
  absl::Duration start;
  absl::Duration finish;
  int samples_ahead = 0;
};

class AdmissionGate;

// A share of the gate's limits, given back on destruction. Movable; thread-compatible.
class AdmissionTicket {
 public:
  AdmissionTicket() = default;
  AdmissionTicket(AdmissionTicket&& other) noexcept { *this = std::move(other); }
  AdmissionTicket& operator=(AdmissionTicket&& other) noexcept;
  ~AdmissionTicket();

  // The request's rows and time shrink to what is left of them; its bytes stay.
  void ReportProgress(int steps_done, int steps_total);
  const AdmissionForecast& forecast() const { return forecast_; }

 private:
  friend class AdmissionGate;
  using Place = std::pair<absl::Time, uint64_t>;  // in line: effective deadline, arrival

  AdmissionGate* gate_ = nullptr;
  Place place_;
  AdmissionForecast forecast_;
};

// A gate, not a queue: it keeps count of what was let in. Thread-safe; outlives its tickets.
class AdmissionGate {
 public:
  explicit AdmissionGate(AdmissionOptions);  // closed, with reason STARTING

  // Lets a request in when count, bytes, samples and rows stay under their limits and when, served
  // in order of deadline at the measured step cost, it and every request that was let in before is
  // done in time. Else:
  //   DEADLINE_EXCEEDED   DEADLINE_PASSED
  //   RESOURCE_EXHAUSTED  DEADLINE_UNREACHABLE: with RetryInfo when a shorter line would do
  //                       QUEUE_FULL: with RetryInfo
  // or the status that it was closed with.
  absl::StatusOr<AdmissionTicket> Enter(const RequestCost&, Priority, absl::Time deadline,
                                        absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  void Open() ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status closed() const ABSL_LOCKS_EXCLUDED(mutex_);  // what it was closed with
  int requests() const ABSL_LOCKS_EXCLUDED(mutex_);
  // False when requests are still in after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class AdmissionTicket;
  struct Entry {
    RequestCost left;
    RequestCost whole;
    absl::Time deadline;  // infinite when the caller has none
  };
  using Place = AdmissionTicket::Place;

  absl::Status CheckLimits(const RequestCost&) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<AdmissionForecast> Predict(const RequestCost&, const Place&, absl::Time deadline,
                                            absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration TimeUntilOneLeaves() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AdmissionOptions options_;
  mutable absl::Mutex mutex_;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  std::map<Place, Entry> entries_ ABSL_GUARDED_BY(mutex_);  // earliest effective deadline first
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace image_variations
