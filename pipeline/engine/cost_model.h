// What the stages cost on this device, measured at start and tracked while serving: the one source
// of planning, admission, progress and retry delays.
#pragma once

#include <cstdint>
#include <map>

#include "absl/time/time.h"
#include "pipeline/engine/outlier_filter.h"
#include "pipeline/engine/pace.h"
#include "pipeline/engine/step_cost.h"

namespace image_variations {

// Time of one run of a stage by latent area; an area that was never measured is scaled from the
// nearest one. Thread-compatible.
class StageCost {
 public:
  void Observe(int64_t latent_area, absl::Duration);
  absl::Duration Predict(int64_t latent_area) const;  // zero while nothing was observed

 private:
  struct Track {
    double seconds = 0;
    OutlierFilter filter;
  };
  std::map<int64_t, Track> tracks_;
};

struct CostModel {
  StepCostModel unet;
  StageCost decode;     // VAE and safety checker, of one picture
  StageCost embedding;  // of one job; kept under kSourceArea
  Pace pace;            // of all of them together, and what is between them

  // The image encoder sees every source in its own size.
  static constexpr int64_t kSourceArea = 1;
};

}  // namespace image_variations
