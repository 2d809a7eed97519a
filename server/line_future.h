// The future of everybody in one engine's line, with or without a newcomer.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "server/retry_promises.h"
#include "server/standing_line.h"

namespace image_variations {

// How much more time a promise is given than its request is predicted to take: until it is kept,
// those who are let in before it change the future a little.
inline constexpr double kPromiseMargin = 1.1;

// A request that asks to be let in. Times are seconds from now.
struct Newcomer {
  const RequestShape& shape;
  double place = 0;
  double deadline = std::numeric_limits<double>::infinity();
  double delay = 0;  // after which it comes; place and deadline count from then
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
LineFuture PlayLine(StandingLine&, const Newcomer*, absl::Span<const RetryPromise> comers,
                    std::vector<double>* ends = nullptr);

}  // namespace image_variations
