// The part of the gate before one engine: who was let in, and their future at that engine's costs.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/engine/forecast.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/line_order.h"
#include "server/admission_request.h"
#include "server/line_future.h"
#include "server/recent_admissions.h"
#include "server/retry_promises.h"

namespace image_variations {

// What a retry waits at least.
inline constexpr absl::Duration kMinRetryDelay = absl::Milliseconds(100);

// When a request is predicted to run, seen from now, in such company as others had lately.
struct AdmissionForecast {
  absl::Duration start;
  absl::Duration finish;
  absl::Duration answer;  // the last part of that: from the pictures to the caller
  int samples_ahead = 0;
};

// Thread-compatible. Times that are no absl::Time are seconds: from the Unix epoch in entries, from
// now in futures.
class AdmissionLine {
 public:
  using Place = LineEntry::Place;
  // Sums over entries.
  struct Inside {
    int64_t bytes = 0, samples = 0, unet_rows = 0;
    void Add(const LineEntry&, int sign);
    void Add(const Inside&);
  };
  // What a request would find here.
  struct Offer {
    double place = 0;  // its effective deadline; this and the next from now
    double deadline = std::numeric_limits<double>::infinity();  // of its pictures
    LineFuture with, without;  // the latter only when one of the former is late
    double others_late = 0;    // the most that it would make another one late, or later
    bool is_admissible() const { return with.newcomer_late <= 0 && others_late <= 0; }
  };
  struct Refusal {
    absl::Status why;
    absl::Duration wait = absl::InfiniteDuration();  // infinite: there is never room
  };

  AdmissionLine(absl::Duration interactive_target, absl::Duration batch_target);

  // Whether this request was told to come back now; then its promise is kept, and gone.
  bool Claim(const AdmissionRequest&, absl::Time now);
  // What all questions of a request are asked about, until somebody joins, progresses or leaves.
  StandingLine Standing(const Forecast&, absl::Time now) const;
  Offer Consider(const AdmissionRequest&, bool was_promised, StandingLine&) const;
  AdmissionForecast Predict(const AdmissionRequest&, const Offer&, StandingLine&) const;
  // Of an offer that is admissible.
  Place Join(const AdmissionRequest&, const Offer&, StandingLine&);
  // Of one that is not: the answer, and when there is room; then it can be promised.
  Refusal Refuse(const AdmissionRequest&, const Offer&, StandingLine&) const;
  void Promise(const AdmissionRequest&, const Offer&, absl::Duration wait, absl::Time now);
  // The request was promised something elsewhere.
  void TakeBackPromise(const AdmissionRequest&);

  // Of an entry: what is left of it; nothing is; its end.
  void ReportProgress(const Place&, const JobProgress&);
  void ReportServed(const Place&);
  void Leave(const Place&);
  // How long a request's pictures took that was served whole, and then its answer.
  void CompareTimes(absl::Duration predicted, absl::Duration actual);
  void ReportAnswered(absl::Duration since_served);

  // From now, by entry.
  std::vector<double> Ends(StandingLine&) const;
  const std::vector<LineEntry>& entries() const { return entries_; }
  const Inside& inside() const { return inside_; }
  double slowdown() const { return slowdown_; }

 private:
  std::vector<LineEntry>::iterator Find(const Place&);
  double RetryDelay(StandingLine&, Newcomer, double late, const LineFuture& without) const;

  std::vector<LineEntry> entries_;  // by place
  Inside inside_;
  LineOrder order_;
  RetryPromises promises_;
  RecentAdmissions recent_;
  double answer_time_ = 0;  // lately, from ReportServed to ReportAnswered
  uint64_t arrivals_ = 0;
  double slowdown_ = 1;
  double least_slowdown_ = 0;  // of the running interval ...
  int served_ = 0;             // ... and its requests so far
};

}  // namespace image_variations
