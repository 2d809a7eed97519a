// The gate in front of the engine's queue: says at once whether a request can be served, by what
// it costs and by when it must be done.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/forecast.h"
#include "pipeline/engine/line_order.h"
#include "server/admission_request.h"
#include "server/recent_admissions.h"
#include "server/retry_promises.h"

namespace image_variations {

struct AdmissionOptions {
  int max_requests = 256;
  int64_t max_bytes = int64_t{2} << 30;     // encoded, decoded and result pictures of all requests
  int max_samples = 1024;                   // waiting or running
  int64_t max_unet_rows_ahead = 1'000'000;  // still to be computed
  int max_rows = 16;  // of one UNet call; these three as in StepBatcherOptions
  absl::Duration interactive_target = absl::Minutes(2);
  absl::Duration batch_target = absl::Minutes(30);
};

// When an admitted request is predicted to run, as seen from now, in such company as others had
// lately.
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

  // The request's work shrinks to what is left of it; its bytes stay.
  void ReportProgress(const JobProgress&);
  // Its pictures are there: the gate compares with what it had predicted.
  void ReportServed(absl::Time now);
  // They are encoded and on their way.
  void ReportAnswered(absl::Time now);
  const AdmissionForecast& forecast() const { return forecast_; }

 private:
  friend class AdmissionGate;
  // In line: effective deadline in seconds from the gate's beginning, and arrival.
  struct Place {
    double time = 0;
    uint64_t arrival = 0;
    auto operator<=>(const Place&) const = default;
  };

  AdmissionGate* gate_ = nullptr;
  Place place_;
  absl::Time admitted_;
  absl::Time served_;
  AdmissionForecast forecast_;
};

// A gate, not a queue: it keeps count of what was let in. Thread-safe; outlives its tickets.
class AdmissionGate {
 public:
  explicit AdmissionGate(AdmissionOptions);  // closed, with reason STARTING

  // Lets a request in when count, bytes, samples and rows stay under their limits and when, played
  // forward at these costs, it is done in time and makes no request late that was let in before or
  // told to come back. Else:
  //   DEADLINE_EXCEEDED   DEADLINE_PASSED
  //   RESOURCE_EXHAUSTED  DEADLINE_UNREACHABLE: with RetryInfo when a shorter line would do
  //                       QUEUE_FULL: with RetryInfo when it ever fits
  // or the status that it was closed with. A request without a deadline is let in whatever the
  // time; if it can have its priority's target at its admission, nobody later takes that from it.
  absl::StatusOr<AdmissionTicket> Enter(const AdmissionRequest&, const CostModel&, absl::Time now)
      ABSL_LOCKS_EXCLUDED(mutex_);

  void Open() ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status closed() const ABSL_LOCKS_EXCLUDED(mutex_);  // what it was closed with
  int requests() const ABSL_LOCKS_EXCLUDED(mutex_);
  // How much longer requests have been taking than predicted, lately and without exception; 1 when
  // predictions are right. Predictions count so many times as long.
  double slowdown() const ABSL_LOCKS_EXCLUDED(mutex_);
  // False when requests are still in after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class AdmissionTicket;
  using Place = AdmissionTicket::Place;
  struct Entry {
    Place place;
    double deadline = 0;  // as place.time
    double promised = 0;  // by when it was promised to be done; infinite: by no time
    RequestShape shape;
    int64_t bytes = 0;
    int samples_open = 0;
    int samples_fresh = 0;  // of those, without a step
    int begun_steps = 0;    // that each of the others has to go

    int64_t unet_rows() const;
  };
  struct Inside {
    int64_t bytes = 0, samples = 0, unet_rows = 0;
    void Add(const Entry&, int sign);
  };
  struct Newcomer;
  struct Outcome;

  std::vector<Entry>::iterator Find(const Place&) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckLimits(const AdmissionRequest&, Forecast&, double now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Outcome Play(Forecast&, double now, const Newcomer*, double delay,
               absl::Span<const RetryPromise> comers) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  double RetryDelay(Forecast&, double now, const Newcomer&, double late,
                    const Outcome& without) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckTime(const AdmissionRequest&, Forecast&, absl::Time now, const Newcomer&,
                         const Outcome&) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AdmissionOptions options_;
  mutable absl::Mutex mutex_;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // by place
  Inside inside_ ABSL_GUARDED_BY(mutex_);               // sums over entries_
  LineOrder order_ ABSL_GUARDED_BY(mutex_);
  RetryPromises promises_ ABSL_GUARDED_BY(mutex_);
  RecentAdmissions recent_ ABSL_GUARDED_BY(mutex_);
  double answer_time_ ABSL_GUARDED_BY(mutex_) = 0;  // lately, from ReportServed to ReportAnswered
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
  double slowdown_ ABSL_GUARDED_BY(mutex_) = 1;
  double least_slowdown_ ABSL_GUARDED_BY(mutex_) = 0;  // of the running interval ...
  int served_ ABSL_GUARDED_BY(mutex_) = 0;             // ... and its requests so far
};

}  // namespace image_variations
