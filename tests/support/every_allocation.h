// Memory runs out at every allocation in turn.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>

#include "absl/status/status.h"
#include "tests/support/failing_malloc.h"

namespace image_variations {

// Says at the end how many allocations have failed in turn.
class AllocationTotal : public ::testing::Environment {
 public:
  void TearDown() override { std::printf("%lld allocations failed in turn\n", allocations); }
  static inline long long allocations = 0;
};
inline const ::testing::Environment* const kAllocationTotal =
    ::testing::AddGlobalTestEnvironment(new AllocationTotal);

// `read` gives `usual` as it always does, or RESOURCE_EXHAUSTED when one of its allocations fails;
// either way it gives back everything but what is made once.
inline void ExpectAStatusAtEveryAllocation(const std::function<absl::Status()>& read,
                                           absl::StatusCode usual = absl::StatusCode::kOk) {
  ASSERT_EQ(read().code(), usual);  // also makes what is made once
  AllocationCounts counts{.failed = true};
  for (int64_t fail_at = 1; counts.failed; ++fail_at) {  // in the last turn none fails
    absl::StatusCode code = absl::StatusCode::kUnknown;
    const auto run = [&] { return RunWithFailingMalloc(fail_at, [&] { code = read().code(); }); };
    counts = run();
    if (counts.live > 0) counts = run();
    EXPECT_TRUE(code == usual || (counts.failed && code == absl::StatusCode::kResourceExhausted))
        << absl::StatusCodeToString(code) << " at allocation " << fail_at;
    EXPECT_EQ(counts.live, 0) << "lost at allocation " << fail_at;
    AllocationTotal::allocations += counts.failed;
  }
}

}  // namespace image_variations
