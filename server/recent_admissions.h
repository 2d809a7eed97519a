// What was let in lately: what comes next will be like it.
#pragma once

#include <deque>
#include <vector>

#include "absl/time/time.h"
#include "server/retry_promises.h"

namespace image_variations {

// Thread-compatible.
class RecentAdmissions {
 public:
  // `at`: now, not before the last one's.
  void Add(RetryPromise);
  // Those who will come in the next `horizon`, by time: every third, and as far in it, of those who
  // came in the last three.
  std::vector<RetryPromise> Replay(absl::Time now, absl::Duration horizon) const;

 private:
  std::deque<RetryPromise> latest_;  // by time
};

}  // namespace image_variations
