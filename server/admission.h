// The gate in front of the engines' queues: says at once whether a request can be served, by what
// it costs and by when it must be done, and where it is served soonest.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/forecast.h"
#include "server/admission_line.h"
#include "server/admission_request.h"

namespace image_variations {

struct AdmissionOptions {
  int devices = 1;  // with an engine each; the limits are those of all together
  int max_requests = 256;
  int64_t max_bytes = int64_t{2} << 30;     // encoded, decoded and result pictures of all requests
  int max_samples = 1024;                   // waiting or running
  int64_t max_unet_rows_ahead = 1'000'000;  // still to be computed
  int max_rows = 16;  // of one UNet call; these three as in StepBatcherOptions
  absl::Duration interactive_target = absl::Minutes(2);
  absl::Duration batch_target = absl::Minutes(30);
};

class AdmissionGate;

// Bytes that count as those of requests do, and nothing else of them; given back on destruction.
struct GiveBackBytes {
  int64_t bytes = 0;
  void operator()(AdmissionGate* gate) const;
};
using HeldBytes = std::unique_ptr<AdmissionGate, GiveBackBytes>;

// A share of the gate's limits, given back on destruction. Movable; thread-compatible.
class AdmissionTicket {
 public:
  AdmissionTicket() = default;
  AdmissionTicket(AdmissionTicket&& other) noexcept { *this = std::move(other); }
  AdmissionTicket& operator=(AdmissionTicket&& other) noexcept;
  ~AdmissionTicket();

  // The request's work shrinks to what is left of it; its bytes stay.
  void ReportProgress(const JobProgress&);
  // The engine is done with it. If it is complete, with every picture, the gate compares its time
  // with what it had predicted; one that was cut short tells nothing about that.
  void ReportServed(absl::Time now, bool is_complete);
  // They are encoded and on their way.
  void ReportAnswered(absl::Time now);
  const AdmissionForecast& forecast() const { return forecast_; }
  // Where it has its place in line.
  int device() const { return device_; }

 private:
  friend class AdmissionGate;

  AdmissionLine& line() const ABSL_NO_THREAD_SAFETY_ANALYSIS;  // under the gate's lock

  AdmissionGate* gate_ = nullptr;
  int device_ = 0;
  AdmissionLine::Place place_;
  absl::Time admitted_;
  absl::Time served_;
  AdmissionForecast forecast_;
};

// A gate, not a queue: it keeps count of what was let in. Thread-safe; outlives its tickets.
class AdmissionGate {
 public:
  explicit AdmissionGate(AdmissionOptions);  // closed, with reason STARTING

  // Lets a request in when count, bytes, samples and rows stay under their limits and when, played
  // forward at these costs of each device, there is one where it is done in time and makes no
  // request late that was let in before or told to come back. Of such devices the one that is done
  // first has it. Else:
  //   DEADLINE_EXCEEDED   DEADLINE_PASSED
  //   RESOURCE_EXHAUSTED  DEADLINE_UNREACHABLE: with RetryInfo when a shorter line would do
  //                       QUEUE_FULL: with RetryInfo when it ever fits
  // or the status that it was closed with. A request without a deadline is let in whatever the
  // time; if it can have its priority's target at its admission, nobody later takes that from it.
  absl::StatusOr<AdmissionTicket> Enter(const AdmissionRequest&, absl::Span<const CostModel>,
                                        absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);
  // Bytes of an answer that waits for its reader, whether or not there is a request at work for it:
  // nobody waits for them to go. RESOURCE_EXHAUSTED, QUEUE_FULL as Enter's.
  absl::StatusOr<HeldBytes> Hold(int64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  void Open() ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status closed() const ABSL_LOCKS_EXCLUDED(mutex_);  // what it was closed with
  int requests() const ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);  // of requests, and held
  // How much longer requests have been taking than predicted, lately and without exception, on the
  // device that is furthest behind; 1 when predictions are right. Predictions count so many times
  // as long.
  double slowdown() const ABSL_LOCKS_EXCLUDED(mutex_);
  // False when requests are still in after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class AdmissionTicket;
  friend struct GiveBackBytes;

  AdmissionLine::Inside inside() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // of all lines
  int64_t bytes_inside() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckLimits(const AdmissionRequest&, std::vector<StandingLine>&) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(const AdmissionRequest&, std::vector<StandingLine>&,
                      absl::Span<const AdmissionLine::Offer>) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int CountRequests() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const AdmissionOptions options_;
  mutable absl::Mutex mutex_;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  std::vector<AdmissionLine> lines_ ABSL_GUARDED_BY(mutex_);  // by device
  int64_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace image_variations
