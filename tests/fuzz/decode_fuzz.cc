// The picture decoder, with limits that make every input quick: what it takes is a whole upright
// picture of the size that was announced, and what it does not take has a reason.
#include <cstdint>

#include "pipeline/base/status_macros.h"
#include "pipeline/image/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  constexpr DecodeLimits kLimits{
      .max_bytes = 1 << 16, .max_pixels = 1 << 18, .max_side = 1 << 14, .max_pixel_scans = 1 << 21};
  const absl::string_view encoded(reinterpret_cast<const char*>(bytes), size);
  const absl::StatusOr<ImageHeader> header = PeekImage(encoded, kLimits);
  const absl::StatusOr<Image> image = DecodeImage(encoded, kLimits);
  IV_CHECK(header.ok() || !header.status().message().empty());
  IV_CHECK(image.ok() || !image.status().message().empty());
  IV_CHECK(header.ok() || !image.ok());
  if (!image.ok()) return 0;
  IV_CHECK(image->width == header->width && image->height == header->height);
  IV_CHECK(int64_t{image->width} * image->height <= kLimits.max_pixels);
  IV_CHECK(image->rgb.size() == RgbBytes(image->width, image->height));
  IV_CHECK(header->decode_bytes >= static_cast<int64_t>(image->rgb.size()));
  return 0;
}
