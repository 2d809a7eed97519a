// The error of values that are not finite, with the stage that they come from.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// Payload of the INTERNAL status: "embed" (of the job's picture), "denoise" or "decode" (of a
// sample).
inline constexpr absl::string_view kNonFiniteStagePayload = "imagevariations/non-finite-stage";

inline absl::Status NonFiniteError(absl::string_view stage) {
  absl::Status status = absl::InternalError(absl::StrCat("values are not finite after ", stage));
  status.SetPayload(kNonFiniteStagePayload, absl::Cord(stage));
  return status;
}

}  // namespace image_variations
