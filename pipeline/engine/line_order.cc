#include "pipeline/engine/line_order.h"

#include <algorithm>

namespace image_variations {

absl::Time LineOrder::PlaceOf(const std::string& caller, Priority priority, absl::Time deadline,
                              absl::Time now) const {
  const auto served = served_until_.find({priority, caller});
  const absl::Time start = served == served_until_.end() ? now : std::max(now, served->second);
  const absl::Duration target = priority == Priority::kBatch ? batch_target_ : interactive_target_;
  return std::min(deadline, start + target);
}

void LineOrder::Join(const std::string& caller, Priority priority, absl::Duration work,
                     absl::Time now) {
  std::erase_if(served_until_, [now](const auto& line) { return line.second <= now; });
  absl::Time& served = served_until_.try_emplace({priority, caller}, now).first->second;
  const auto sharing = static_cast<double>(std::ranges::count_if(
      served_until_, [priority](const auto& line) { return line.first.first == priority; }));
  served += work * sharing;
}

}  // namespace image_variations
