// The start-up proof behind ModelInfo::reproducible, at a size that the device can afford.
#pragma once

#include "absl/status/statusor.h"
#include "pipeline/engine/self_test.h"
#include "pipeline/model/network_runner.h"

namespace image_variations {

// TestReproducibility of pipeline/engine/self_test.h. On a GPU: each of the model's row buckets, at
// its default size. On the CPU, where a full-size model takes seconds for a row: small pictures,
// and as many rows as are quickly done.
absl::StatusOr<SelfTestResult> RunSelfTest(NetworkRunner&, int max_slots, int max_rows);

}  // namespace image_variations
