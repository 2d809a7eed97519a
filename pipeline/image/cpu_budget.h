// Bounds what a picture takes of a processor, whatever it does with the limits of its size.
#pragma once

#include <ctime>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace image_variations {

// Of the thread that makes it and asks it.
class CpuBudget {
 public:
  explicit CpuBudget(absl::Duration most) : most_(most), end_(Used() + most) {}

  // Ask for every row: looks at the clock one time in 64.
  bool IsUsedUp() { return ++asked_ % 64 == 0 && Used() > end_; }
  absl::Status Refusal() const {
    return absl::OutOfRangeError(absl::StrCat("image takes more than ", absl::FormatDuration(most_),
                                              " of processor time to decode, the limit"));
  }

 private:
  static absl::Duration Used() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return absl::DurationFromTimespec(time);
  }

  const absl::Duration most_;
  const absl::Duration end_;
  int asked_ = 0;
};

}  // namespace image_variations
