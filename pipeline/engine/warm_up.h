// Measures what a UNet call costs before the first request is planned with it.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// Runs every stage (but scores, where a long embedding told what they take) and UNet calls of 1, 2,
// 4, ... max_rows rows at half the model's default size and at that size, as job 0, and gives what
// they took to `cost`. Left out are long calls that the runner's self-test timed, whose times are
// taken over, and calls of the default size that would be long or pass `budget`: costs are scaled
// from smaller ones until the first requests tell more. Non-OK: the model does not run on this
// device, with the stage's status. Engine thread only, while nothing else runs.
absl::Status WarmUp(ModelRunner&, const Clock&, int max_rows, absl::Duration budget,
                    CostModel* cost);

}  // namespace image_variations
