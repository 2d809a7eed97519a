#include "server/recent_admissions.h"

#include <utility>

namespace image_variations {
namespace {

constexpr size_t kMaxKept = 64;  // more of them do not make calls any wider

}  // namespace

void RecentAdmissions::Add(RetryPromise request) {
  if (latest_.size() == kMaxKept) latest_.pop_front();
  latest_.push_back(std::move(request));
}

std::vector<RetryPromise> RecentAdmissions::Replay(absl::Time now, absl::Duration horizon) const {
  std::vector<RetryPromise> comers;
  for (const RetryPromise& request : latest_) {
    if (request.at <= now - horizon) continue;
    comers.push_back(request);
    comers.back().at += horizon;
  }
  return comers;
}

}  // namespace image_variations
