// The start-up proof behind ModelInfo::reproducible.
#pragma once

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

struct SelfTestOptions {
  LatentSize size;             // of the samples
  std::vector<int> call_rows;  // the row counts of UNet calls that are tried, ascending
  int max_slots = 256;
  // Two unguided samples in one order, of which only the first is run alone too, where it has
  // another place.
  bool is_quick = false;
};

struct SelfTestResult {
  bool is_reproducible = false;
  // One of each row count, its shortest. What is done once in a first call is left out as far as
  // larger calls tell: rows take no more time for themselves than in company.
  std::vector<TimedCall> calls;
};

// As `job`, which has its embedding: runs one step of unlike samples alone, then calls of each row
// count full of them and, in another order, with dead rows where the count has room for them.
// Reproducible if `latents_of` (a slot's latents after the step, bit for bit) says the same of
// every sample wherever it was. Row counts that the device has no memory for are left out. The
// slots' contents are arbitrary after it. Non-OK: the networks do not run here.
absl::StatusOr<SelfTestResult> TestReproducibility(
    ModelRunner&, JobId job, absl::FunctionRef<std::string(SlotId)> latents_of, const Clock&,
    const SelfTestOptions&);

}  // namespace image_variations
