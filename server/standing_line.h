// What one engine's line is when somebody asks to be let in.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/forecast.h"
#include "server/retry_promises.h"

namespace image_variations {

inline constexpr double kTimeRounding = 1e-6;  // seconds: less late than that is in time

// A request in line. Times are seconds from the Unix epoch.
struct LineEntry {
  // Effective deadline and arrival.
  struct Place {
    double time = 0;
    uint64_t arrival = 0;
    auto operator<=>(const Place&) const = default;
  };

  Place place;
  double deadline = 0;  // of its pictures; as place.time
  double promised = 0;  // by when it was promised to be done; infinite: by no time
  RequestShape shape;
  int64_t bytes = 0;
  int samples_open = 0;
  int samples_fresh = 0;  // of those, without a step
  int begun_steps = 0;    // that each of the others has to go

  int64_t unet_rows() const;
};

// A line at one state of it and of its costs, for many questions. What is behind the entries that a
// Future plays step by step runs one after the other, so that sums answer for all of it at once.
// Times are seconds from now but where LineEntry has them. Thread-compatible.
class StandingLine {
 public:
  // `entries`, by place, and the forecast's costs outlive it. `slowdown`: predicted times count so
  // many times as long.
  StandingLine(absl::Span<const LineEntry> entries, double slowdown, const Forecast&,
               absl::Time now);

  absl::Span<const LineEntry> entries() const { return entries_; }
  double slowdown() const { return slowdown_; }
  Forecast& forecast() { return forecast_; }
  absl::Time now() const { return now_; }
  double TimeUntil(double since_epoch) const { return since_epoch - since_epoch_; }

  // When an entry has to be done to be as promised, give or take what is rounded.
  double TimeLeft(const LineEntry& entry) const {
    return TimeUntil(entry.promised) + kTimeRounding;
  }

  // What the entries [first, end) take in efficient calls.
  double Work(size_t first, size_t end) { return sums()[end].work - sums()[first].work; }
  // The first entry from `first` on that may be late, with the forecast's margin, if they begin at
  // `begin` and run one after the other: all that surely are not are left out. Their number if
  // none.
  size_t NextInDanger(size_t first, double begin);

 private:
  struct Sums {
    double work;           // of the entries before this one
    double latest;         // when all work may begin for this entry to be in time
    double latest_of_all;  // for it and those behind it
  };

  const Sums* sums() {
    if (sums_ == nullptr) SumUp();
    return sums_.get();
  }
  void SumUp();

  const absl::Span<const LineEntry> entries_;
  const double slowdown_;
  Forecast forecast_;
  const absl::Time now_;
  const double since_epoch_;
  std::unique_ptr<Sums[]> sums_;  // of each entry and of the end; null until asked for
};

}  // namespace image_variations
