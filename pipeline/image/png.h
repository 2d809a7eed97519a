// PNG pixels, by libpng. Nothing of libpng is visible outside png.cc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/image/codec.h"
#include "pipeline/image/stored_header.h"

namespace image_variations {

// `header` is what ReadPngHeader says of these bytes. Alpha a over white: each 8-bit channel c
// becomes round(c a / 255) + 255 - a.
absl::StatusOr<Image> DecodePng(absl::string_view bytes, const StoredHeader& header,
                                absl::Duration max_cpu);

// options.format is kPng.
absl::StatusOr<std::string> EncodePng(const Image&, const EncodeOptions& options);

}  // namespace image_variations
