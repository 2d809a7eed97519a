// The most rows of a UNet call that the device has memory for, by latent size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "pipeline/engine/job.h"

namespace image_variations {

// Learned from failures; looks upwards again after calls that went well, more and more seldom.
// Thread-compatible.
class RowCeilings {
 public:
  explicit RowCeilings(int max_rows) : max_rows_(max_rows) {}

  int Of(LatentSize size) const {
    const auto found = ceilings_.find(size);
    return found == ceilings_.end() ? max_rows_ : found->second.rows;
  }

  void OnOutOfMemory(LatentSize size, int rows) {
    Ceiling& ceiling = ceilings_[size];
    if (ceiling.proven > 0 && rows > ceiling.proven) {
      ceiling.patience = std::min(4 * ceiling.patience, kMaxPatience);
      ceiling.rows = ceiling.proven;
    } else {
      ceiling.rows = std::max(1, rows / 2);
      ceiling.proven = 0;
    }
    ceiling.calls = 0;
  }

  void OnCall(LatentSize size, int rows) {
    const auto found = ceilings_.find(size);
    if (found == ceilings_.end()) return;
    Ceiling& ceiling = found->second;
    ceiling.proven = std::max(ceiling.proven, rows);
    if (++ceiling.calls < ceiling.patience) return;
    ceiling.calls = 0;
    ceiling.rows += kStepUp;
    if (ceiling.rows >= max_rows_ && ceiling.proven >= max_rows_)
      ceilings_.erase(found);
    else
      ceiling.rows = std::min(ceiling.rows, max_rows_);
  }

  static constexpr int kFirstPatience = 64;  // calls that went well before the first look upwards

 private:
  static constexpr int kMaxPatience = 1 << 14;
  static constexpr int kStepUp = 2;  // one guided sample

  struct Ceiling {
    int rows = 0;
    int proven = 0;  // the most rows that went well since
    int calls = 0;   // that went well since the last look upwards
    int patience = kFirstPatience;
  };

  const int max_rows_;
  std::map<LatentSize, Ceiling> ceilings_;
};

}  // namespace image_variations
