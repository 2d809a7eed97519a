#include "server/caller_limits.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr absl::Duration kRetryDelay = absl::Seconds(1);

// `would_be` of `what` with this request.
absl::Status Refuse(const std::string& caller, absl::string_view what, int64_t would_be,
                    int64_t limit) {
  const std::string message =
      absl::StrCat(caller, " would have ", would_be, " ", what, ", limit ", limit);
  return WithQuotaFailure(
      MakeError(
          absl::StatusCode::kResourceExhausted, reason::kCallerLimit, message,
          {{"caller", caller}, {"value", absl::StrCat(would_be)}, {"limit", absl::StrCat(limit)}}),
      caller, message);
}

}  // namespace

CallerTicket& CallerTicket::operator=(CallerTicket&& other) noexcept {
  if (this == &other) return *this;
  Leave();
  limits_ = std::exchange(other.limits_, nullptr);
  caller_ = std::move(other.caller_);
  unet_rows_ = other.unet_rows_;
  return *this;
}

void CallerTicket::Leave() {
  if (limits_ == nullptr) return;
  absl::MutexLock lock(&limits_->mutex_);
  const auto share = limits_->shares_.find(caller_);
  share->second.unet_rows -= unet_rows_;
  if (--share->second.requests == 0) limits_->shares_.erase(share);
  limits_ = nullptr;
}

absl::StatusOr<CallerTicket> CallerLimits::Enter(const std::string& caller, int64_t unet_rows) {
  absl::MutexLock lock(&mutex_);
  const auto found = shares_.find(caller);
  Share share = found == shares_.end() ? Share() : found->second;
  ++share.requests;
  share.unet_rows += unet_rows;
  if (options_.max_requests > 0 && share.requests > options_.max_requests) {
    return WithRetryDelay(
        Refuse(caller, "requests at a time", share.requests, options_.max_requests), kRetryDelay);
  }
  if (options_.max_unet_rows > 0 && share.unet_rows > options_.max_unet_rows) {
    const absl::Status refused =
        Refuse(caller, "rows of UNet calls at a time", share.unet_rows, options_.max_unet_rows);
    return unet_rows > options_.max_unet_rows ? refused : WithRetryDelay(refused, kRetryDelay);
  }
  shares_[caller] = share;
  CallerTicket ticket;
  ticket.limits_ = this;
  ticket.caller_ = caller;
  ticket.unet_rows_ = unet_rows;
  return ticket;
}

}  // namespace image_variations
