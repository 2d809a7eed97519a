#include "client/retry.h"

#include <algorithm>

#include "client/error_details.h"

namespace image_variations::client {
namespace {

absl::Duration Backoff(const RetryPolicy& policy, int attempts) {
  absl::Duration backoff = policy.first_backoff;
  for (int made = 1; made < attempts && backoff < policy.max_backoff; ++made) backoff *= 2;
  return std::min(backoff, policy.max_backoff);
}

}  // namespace

std::optional<absl::Duration> WaitBeforeRetry(const RetryPolicy& policy, const absl::Status& status,
                                              int attempts, absl::Duration until_deadline,
                                              double jitter) {
  if (attempts >= policy.max_attempts) return std::nullopt;
  const std::optional<absl::Duration> advised = DecodeErrorDetails(status).retry_after;
  const bool worth_it =
      absl::IsUnavailable(status) || (absl::IsResourceExhausted(status) && advised.has_value());
  if (!worth_it) return std::nullopt;
  const absl::Duration wait = advised.value_or(Backoff(policy, attempts)) * (1 + jitter / 4);
  if (wait >= until_deadline) return std::nullopt;
  return std::max(wait, absl::ZeroDuration());
}

}  // namespace image_variations::client
