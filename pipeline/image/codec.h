// Image bytes <-> pixels. Pure functions: any thread, no globals, no files. JPEG and PNG; the type
// is sniffed.
//
// What a status code means here: INVALID_ARGUMENT the bytes are no whole, well-formed picture;
// UNIMPLEMENTED a format or a feature that is not decoded; OUT_OF_RANGE a limit is passed (the
// message has both numbers); RESOURCE_EXHAUSTED there is no memory for it now.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "pipeline/image/image.h"

namespace image_variations {

enum class ImageFormat { kJpeg, kPng };

// "image/jpeg" or "image/png".
absl::string_view MimeType(ImageFormat);

// Checked before anything is allocated; max_cpu while the picture is decoded.
struct DecodeLimits {
  int64_t max_bytes = 10 << 20;           // encoded
  int64_t max_pixels = 50'000'000;        // width x height; a PNG inflates to 4 times as many bytes
  int max_side = 16'384;                  // pixels
  int64_t max_pixel_scans = 500'000'000;  // pixels x scans of a progressive JPEG
  absl::Duration max_cpu = absl::Seconds(2);  // of the decoding thread
};

// What the bytes say of themselves, before decoding.
struct ImageHeader {
  ImageFormat format = ImageFormat::kPng;
  int width = 0;  // of the upright picture: EXIF orientation is applied
  int height = 0;
  int64_t decode_bytes = 0;  // memory that DecodeImage needs at its peak, its result included
};

// Walks the markers or chunks and allocates nothing: microseconds, for the largest JPEG a few
// milliseconds. A truncated file is found here; other damage may be found by DecodeImage only.
absl::StatusOr<ImageHeader> PeekImage(absl::string_view bytes, const DecodeLimits&);

// The upright RGB8 picture. Grayscale becomes three equal channels, a palette its colours, 16 bits
// keep their upper 8, alpha is composited on white, CMYK and YCCK (Adobe's inverted ones too)
// become RGB, EXIF orientation is applied. Colour profiles and gAMA are ignored. A truncated or
// damaged file is an error, not a half-grey picture.
absl::StatusOr<Image> DecodeImage(absl::string_view bytes, const DecodeLimits&);

struct EncodeOptions {
  ImageFormat format = ImageFormat::kPng;
  int jpeg_quality = 95;  // 1 to 100, 4:4:4 from 90 on
  bool is_quick = false;  // JPEG: one pass less over the picture, some bytes more
  // Generation parameters in AUTOMATIC1111's text form, UTF-8: PNG tEXt (iTXt if not Latin-1) key
  // "parameters", JPEG EXIF UserComment. Given, the picture is also marked as made by a model: XMP
  // Iptc4xmpExt:DigitalSourceType = trainedAlgorithmicMedia. Absent: no metadata at all.
  std::optional<std::string> parameters;
};

// The same pixels and options give the same bytes, in no more memory than they need: they may be
// kept for long.
absl::StatusOr<std::string> EncodeImage(const Image&, const EncodeOptions&);

}  // namespace image_variations
