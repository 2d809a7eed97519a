// The future of everybody in one engine's line, with or without a newcomer.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "pipeline/engine/forecast.h"
#include "server/retry_promises.h"

namespace image_variations {

// How much more time a promise is given than its request is predicted to take: until it is kept,
// those who are let in before it change the future a little.
inline constexpr double kPromiseMargin = 1.1;

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

// A request that asks to be let in. Times are seconds from now.
struct Newcomer {
  const RequestShape& shape;
  double place = 0;
  double deadline = std::numeric_limits<double>::infinity();
  double delay = 0;  // after which it comes; place and deadline count from then
};

// A line as it stands.
struct StandingLine {
  absl::Span<const LineEntry> entries;  // by place
  double slowdown = 1;                  // predicted times count so many times as long
  Forecast& forecast;
  double now = 0;
};

// Times are seconds from now, the newcomer's from its coming.
struct LineFuture {
  // Somebody who is later than promised.
  struct Late {
    size_t who = 0;        // entries, then comers
    double by = 0;         // with the forecast's margin
    bool is_lost = false;  // an entry, even without margin
  };

  double start = 0, finish = 0;  // the newcomer's
  int samples_ahead = 0;
  double newcomer_late = 0;  // beyond its deadline, with the forecast's margin; <= 0: in time
  double end = 0;            // of all others
  std::vector<Late> late;    // in order; without those whom the newcomer goes behind

  double OthersLate(const LineFuture& without) const;
};

// What becomes of a line, of those who will come to it, and of the newcomer, if there is one.
// `ends`: takes the entries' ends.
LineFuture PlayLine(const StandingLine&, const Newcomer*, absl::Span<const RetryPromise> comers,
                    std::vector<double>* ends = nullptr);

}  // namespace image_variations
