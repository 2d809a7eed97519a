// The start-up proof behind ModelInfo::reproducible.
#pragma once

#include "absl/status/statusor.h"
#include "pipeline/model/network_runner.h"

namespace image_variations {

// Runs one step of a few unlike samples at the model's default size, alone and in company, at
// several positions and row counts; true if every bit agrees. Leaves no job behind; the slots'
// contents are arbitrary after it. Non-OK: the networks do not run here.
absl::StatusOr<bool> IsReproducible(NetworkRunner&, int max_slots, int max_rows);

}  // namespace image_variations
