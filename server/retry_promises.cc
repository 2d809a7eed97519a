#include "server/retry_promises.h"

#include <algorithm>
#include <utility>

namespace image_variations {
namespace {

constexpr size_t kMaxPromises = 1024;
constexpr double kWeightOfNews = 0.1;
constexpr double kMostly = 0.5;

}  // namespace

bool RetryPromises::Claim(const std::string& caller, const std::string& request_id,
                          absl::Time now) {
  const auto found = std::ranges::find_if(promises_, [&](const RetryPromise& promise) {
    return promise.request_id == request_id && promise.caller == caller;
  });
  if (found == promises_.end() || found->at > now) return false;
  promises_.erase(found);
  share_kept_ += kWeightOfNews * (1 - share_kept_);
  return true;
}

void RetryPromises::Expire(absl::Time now) {
  const size_t expired =
      std::erase_if(promises_, [now](const RetryPromise& promise) { return promise.until <= now; });
  for (size_t i = 0; i < expired; ++i) share_kept_ -= kWeightOfNews * share_kept_;
}

void RetryPromises::Make(RetryPromise promise) {
  TakeBack(promise.caller, promise.request_id);
  if (promises_.size() == kMaxPromises) return;
  const auto place = std::ranges::upper_bound(promises_, promise.at, {}, &RetryPromise::at);
  promises_.insert(place, std::move(promise));
}

void RetryPromises::TakeBack(const std::string& caller, const std::string& request_id) {
  std::erase_if(promises_, [&](const RetryPromise& promise) {
    return promise.request_id == request_id && promise.caller == caller;
  });
}

absl::Span<const RetryPromise> RetryPromises::counted() const {
  if (share_kept_ < kMostly) return {};
  return promises_;
}

}  // namespace image_variations
