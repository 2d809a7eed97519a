// Where a job stands in line: its effective deadline.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "pipeline/engine/job.h"

namespace image_variations {

// A job's own deadline, or the target of its priority class from its start on, whichever is sooner.
// The start is its arrival; a caller who asks for much at once starts each job only when its fair
// share of the device has done the ones before (start-time fair queueing), so that the first job of
// another caller does not wait for the last of this one. Thread-compatible.
class LineOrder {
 public:
  LineOrder(absl::Duration interactive_target, absl::Duration batch_target)
      : interactive_target_(interactive_target), batch_target_(batch_target) {}

  // Of a job that arrives now.
  absl::Time PlaceOf(const std::string& caller, Priority, absl::Time deadline,
                     absl::Time now) const;
  // That job is in line; it takes so much of the device's time.
  void Join(const std::string& caller, Priority, absl::Duration work, absl::Time now);

 private:
  using Line = std::pair<Priority, std::string>;

  const absl::Duration interactive_target_;
  const absl::Duration batch_target_;
  std::map<Line, absl::Time> served_until_;  // of callers with work before them
};

}  // namespace image_variations
