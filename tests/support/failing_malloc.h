// malloc that fails when it is told to, in programs that link this. Under AddressSanitizer it takes
// from that one's, which then tells what is lost or used wrongly; not under other sanitizers.
#pragma once

#include <cstdint>
#include <functional>

namespace image_variations {

struct AllocationCounts {
  int64_t made = 0;        // by this thread, the failed one included
  int64_t live = 0;        // of these, not given back
  int64_t most_bytes = 0;  // of memory that was live at one time
  bool failed = false;     // the failing one was reached
};

// Runs `body` with its fail_at-th allocation, from 1, failing: malloc, calloc, realloc and operator
// new of this thread. 0: none fails.
AllocationCounts RunWithFailingMalloc(int64_t fail_at, const std::function<void()>& body);

}  // namespace image_variations
