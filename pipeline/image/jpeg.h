// JPEG pixels, by libjpeg-turbo. Nothing of libjpeg is visible outside jpeg.cc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/image/codec.h"
#include "pipeline/image/stored_header.h"

namespace image_variations {

// `header` is what ReadJpegHeader says of these bytes. A warning of libjpeg that means lost or
// damaged data is an error; four harmless ones that cameras and old programs cause are not
// (extraneous bytes before a marker, an unknown JFIF version or Adobe transform, odd scan numbers
// in a sequential file).
absl::StatusOr<Image> DecodeJpeg(absl::string_view bytes, const StoredHeader& header,
                                 absl::Duration max_cpu);

// options.format is kJpeg. Optimised Huffman tables; chroma at half size below quality 90.
absl::StatusOr<std::string> EncodeJpeg(const Image&, const EncodeOptions& options);

}  // namespace image_variations
