#include "pipeline/image/stored_header.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace image_variations {

absl::Status CheckSize(int64_t width, int64_t height, const DecodeLimits& limits) {
  if (std::max(width, height) > limits.max_side) {
    return absl::OutOfRangeError(absl::StrCat("image is ", width, "x", height, ", limit ",
                                              limits.max_side, " pixels per side"));
  }
  if (width * height > limits.max_pixels) {
    return absl::OutOfRangeError(absl::StrCat("image is ", width, "x", height, " = ",
                                              width * height, " pixels, limit ",
                                              limits.max_pixels));
  }
  return absl::OkStatus();
}

}  // namespace image_variations
