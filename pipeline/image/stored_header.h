// A picture as it lies in the bytes, before EXIF orientation: what the two formats have in common.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "pipeline/image/codec.h"

namespace image_variations {

struct StoredHeader {
  int width = 0;
  int height = 0;
  int orientation = 1;        // EXIF's number, 1 to 8
  int64_t working_bytes = 0;  // memory that decoding needs beside its result
};

// OUT_OF_RANGE when a picture of this size passes a limit. Any positive 32-bit sides.
absl::Status CheckSize(int64_t width, int64_t height, const DecodeLimits&);

}  // namespace image_variations
