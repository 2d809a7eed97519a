// The most rows of a UNet call, or pictures of a decode, that the device has memory for, by latent
// size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "pipeline/engine/job.h"

namespace image_variations {

// Learned from failures; looks upwards again after calls that went well, more and more seldom.
// Thread-compatible.
class MemoryCeilings {
 public:
  // `step_up`: by how much a ceiling rises when it looks upwards.
  MemoryCeilings(int most, int step_up) : most_(most), step_up_(step_up) {}

  int Of(LatentSize size) const {
    const auto found = ceilings_.find(size);
    return found == ceilings_.end() ? most_ : found->second.count;
  }

  void OnOutOfMemory(LatentSize size, int count) {
    Ceiling& ceiling = ceilings_[size];
    if (ceiling.proven > 0 && count > ceiling.proven) {
      ceiling.patience = std::min(4 * ceiling.patience, kMaxPatience);
      ceiling.count = ceiling.proven;
    } else {
      ceiling.count = std::max(1, count / 2);
      ceiling.proven = 0;
    }
    ceiling.calls = 0;
  }

  void OnCall(LatentSize size, int count) {
    const auto found = ceilings_.find(size);
    if (found == ceilings_.end()) return;
    Ceiling& ceiling = found->second;
    ceiling.proven = std::max(ceiling.proven, count);
    if (++ceiling.calls < ceiling.patience) return;
    ceiling.calls = 0;
    ceiling.count += step_up_;
    if (ceiling.count >= most_ && ceiling.proven >= most_)
      ceilings_.erase(found);
    else
      ceiling.count = std::min(ceiling.count, most_);
  }

  static constexpr int kFirstPatience = 64;  // calls that went well before the first look upwards

 private:
  static constexpr int kMaxPatience = 1 << 14;

  struct Ceiling {
    int count = 0;
    int proven = 0;  // the most that went well since
    int calls = 0;   // that went well since the last look upwards
    int patience = kFirstPatience;
  };

  const int most_;
  const int step_up_;
  std::map<LatentSize, Ceiling> ceilings_;
};

}  // namespace image_variations
