// What a thread has cost, which other programs on the machine change little.
#pragma once

#include <ctime>

#include "absl/time/time.h"

namespace image_variations {

// Processor time of the calling thread so far.
inline absl::Duration ThreadCpuTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

}  // namespace image_variations
