// Whether a refused call is made again, and when; internal to the client library.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"

namespace image_variations::client {

// The wait before the next attempt after `attempts` made so far, the last of which ended with
// `status`; absent: give up. `jitter` in [0, 1) spreads callers that were refused together: a time
// named by the server is only ever lengthened (by up to a quarter), so that nobody comes back too
// early.
std::optional<absl::Duration> WaitBeforeRetry(const RetryPolicy&, const absl::Status& status,
                                              int attempts, absl::Duration until_deadline,
                                              double jitter);

}  // namespace image_variations::client
