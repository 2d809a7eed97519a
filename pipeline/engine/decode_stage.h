// The last stage of a sample: from finished latents to a picture that was judged.
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/model_runner.h"
#include "pipeline/engine/safety_policy.h"
#include "pipeline/engine/tick.h"

namespace image_variations {

struct JudgedSamples {
  // Parallel to the samples. Non-OK: the picture has values that are not finite.
  std::vector<absl::StatusOr<SampleResult>> results;
  absl::Duration decode_time;  // VAE
  absl::Duration safety_time;  // the scores of the pictures
};

// One call of the VAE over samples of any sizes, scores of the pictures that are finite, verdicts.
// Non-OK: what the runner says of a call that failed; no sample has a result. `when_too_large`: the
// VAE has no memory for so many samples. Engine thread only.
absl::StatusOr<JudgedSamples> DecodeAndJudge(absl::Span<const Placement> samples, ModelRunner&,
                                             const SafetyPolicy&, const Clock&,
                                             absl::FunctionRef<void()> when_too_large);

}  // namespace image_variations
