// The marker segments of a JPEG, walked without libjpeg.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/image/stored_header.h"

namespace image_variations {

// Reads from SOI to EOI, so that the scans are counted before one is decoded. Sees exactly the
// markers that libjpeg would see. `bytes` starts with SOI.
absl::StatusOr<StoredHeader> ReadJpegHeader(absl::string_view bytes, const DecodeLimits&);

}  // namespace image_variations
