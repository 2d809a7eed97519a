// The chunks of a PNG, walked without libpng.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/image/stored_header.h"

namespace image_variations {

// The first eight bytes of every PNG.
inline constexpr absl::string_view kPngSignature = "\x89PNG\r\n\x1A\n";

// Reads chunk by chunk from IHDR to IEND, contents of IHDR and eXIf only. `bytes` starts with
// kPngSignature.
absl::StatusOr<StoredHeader> ReadPngHeader(absl::string_view bytes, const DecodeLimits&);

}  // namespace image_variations
