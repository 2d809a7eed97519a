// What StepBatcher decides and Engine carries out: one turn of the loop, as a value.
#pragma once

#include <compare>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// One picture of one job.
struct SampleRef {
  JobId job{};
  int index = 0;

  auto operator<=>(const SampleRef&) const = default;
};

struct Placement {
  SampleRef sample;
  SlotId slot = 0;
};

// A sample that ends without a picture, and why.
struct Stopped {
  SampleRef sample;
  absl::Status why;
};

// What the model runs before the loop looks at the world again, in this order.
struct Tick {
  std::vector<Stopped> stopped;    // expired or cancelled; already out of their slots
  std::vector<JobId> forget;       // embedded jobs whose last sample ended
  std::vector<JobId> embed;        // jobs whose first sample takes a slot now
  std::vector<Placement> prepare;  // samples taking a slot now: draw their noise
  std::vector<Placement> denoise;  // one UNet call of these samples, all of one latent size ...
  std::vector<StepRow> step_rows;  // ... as the runner wants them, parallel to denoise
  int unet_rows = 0;               // rows that they take
  int padded_rows = 0;             // rows of the call
  bool is_split_by_size = false;   // others could have taken rows, but for their latent size
  std::vector<Placement>
      decode;  // latents that are finished once the call is done: VAE, then safety
};

}  // namespace image_variations
