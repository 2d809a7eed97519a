#include "server/recent_admissions.h"

#include <utility>

namespace image_variations {
namespace {

// One while is not much to judge by: the whiles of which the next one is the mean.
constexpr int kWhiles = 3;
constexpr size_t kMaxKept = size_t{kWhiles} * 64;  // more of them do not make calls any wider

}  // namespace

void RecentAdmissions::Add(RetryPromise request) {
  if (latest_.size() == kMaxKept) latest_.pop_front();
  latest_.push_back(std::move(request));
}

std::vector<RetryPromise> RecentAdmissions::Replay(absl::Time now, absl::Duration horizon) const {
  const absl::Time begin = now - kWhiles * horizon;
  std::vector<RetryPromise> comers;
  int number = 0;
  for (const RetryPromise& request : latest_) {
    if (request.at <= begin || ++number % kWhiles != 0) continue;
    comers.push_back(request);
    comers.back().at = now + (request.at - begin) / kWhiles;
  }
  return comers;
}

}  // namespace image_variations
