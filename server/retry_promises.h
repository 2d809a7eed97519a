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
  std::string request_id;  // the caller's name for it, by which it is known when it comes back
  RequestShape shape;
  absl::Time at;            // from when on there is room
  absl::Time until;         // from when on there is none: the caller did not come
  absl::Duration place;     // after `at`: its effective deadline in line
  absl::Duration deadline;  // after `at`: when it must be done
};

// Promises cost others their place, so they count as long as most callers come back for theirs:
// from the beginning, until the first does not come. Thread-compatible.
class RetryPromises {
 public:
  // The caller is back with this request: takes out its promise. False: there is none, or its time
  // has not come.
  bool Claim(const std::string& caller, const std::string& request_id, absl::Time now);
  // Forgets promises that nobody came for.
  void Expire(absl::Time now);
  // In place of what the same request was promised before.
  void Make(RetryPromise);
  // The request was promised something elsewhere.
  void TakeBack(const std::string& caller, const std::string& request_id);
  // By time. Empty while they do not count.
  absl::Span<const RetryPromise> counted() const;

 private:
  std::vector<RetryPromise> promises_;  // by time
  double share_kept_ = 0.55;            // of the latest ones: the caller came
};

}  // namespace image_variations
