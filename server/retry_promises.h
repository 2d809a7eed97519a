// Remembers who was told to come back when, so that there is room for them.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/job.h"

namespace image_variations {

// What of a request decides when it can be done.
struct RequestShape {
  int samples = 0;
  int steps = 0;  // of one sample
  int rows = 1;   // of one sample in a UNet call
  LatentSize size;

  auto operator<=>(const RequestShape&) const = default;
  int64_t unet_rows() const { return int64_t{samples} * steps * rows; }
};

struct RetryPromise {
  std::string caller;
  RequestShape shape;
  absl::Time at;            // from when on there is room
  absl::Time until;         // from when on there is none: the caller did not come
  absl::Duration place;     // after `at`: its effective deadline in line
  absl::Duration deadline;  // after `at`: when it must be done
};

// Promises cost others their place, so they count only while most callers come back for them.
// Thread-compatible.
class RetryPromises {
 public:
  // The caller is back: takes out its promise for a request of this shape, if its time has come.
  // False: there is none.
  bool Claim(const std::string& caller, const RequestShape&, absl::Time now);
  // Forgets promises that nobody came for.
  void Expire(absl::Time now);
  void Make(RetryPromise);
  // By time. Empty while they do not count.
  absl::Span<const RetryPromise> counted() const;

 private:
  std::vector<RetryPromise> promises_;  // by time
  double share_kept_ = 0.6;             // of the latest ones: the caller came
};

}  // namespace image_variations
