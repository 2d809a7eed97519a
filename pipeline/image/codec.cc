#include "pipeline/image/codec.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/exif_orientation.h"
#include "pipeline/image/jpeg.h"
#include "pipeline/image/jpeg_header.h"
#include "pipeline/image/png.h"
#include "pipeline/image/png_header.h"

namespace image_variations {
namespace {

constexpr absl::string_view kJpegSignature = "\xFF\xD8\xFF";

// Formats that people send and that are not decoded: bytes `magic` at `at`.
struct ForeignFormat {
  size_t at;
  absl::string_view magic;
  absl::string_view name;
};
constexpr ForeignFormat kForeignFormats[] = {
    {0, "GIF8", "GIF"},         {8, "WEBP", "WebP"},         {0, {"II*\0", 4}, "TIFF"},
    {0, {"MM\0*", 4}, "TIFF"},  {4, "ftypavif", "AVIF"},     {4, "ftypavis", "AVIF"},
    {4, "ftyphei", "HEIC"},     {4, "ftypmif1", "HEIF"},     {4, "JXL ", "JPEG XL"},
    {0, "\xFF\x0A", "JPEG XL"}, {4, "jP  ", "JPEG 2000"},    {0, "\xFF\x4F\xFF\x51", "JPEG 2000"},
    {0, "8BPS", "Photoshop"},   {0, {"\0\0\1\0", 4}, "ICO"}, {0, "BM", "BMP"},
    {0, "%PDF", "PDF"},         {0, "<svg", "SVG"},
};

absl::StatusOr<ImageFormat> SniffFormat(absl::string_view bytes) {
  if (absl::StartsWith(bytes, kJpegSignature)) return ImageFormat::kJpeg;
  if (absl::StartsWith(bytes, kPngSignature)) return ImageFormat::kPng;
  if (absl::StartsWith(bytes, kPngSignature.substr(0, 4))) {
    return absl::InvalidArgumentError("PNG signature is damaged, as by a text-mode transfer");
  }
  for (const ForeignFormat& format : kForeignFormats) {
    if (bytes.size() > format.at && absl::StartsWith(bytes.substr(format.at), format.magic)) {
      return absl::UnimplementedError(
          absl::StrCat("image is ", format.name, ", only JPEG and PNG are decoded"));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("image is neither JPEG nor PNG (", bytes.size(), " bytes)"));
}

struct FormatAndHeader {
  ImageFormat format;
  StoredHeader stored;
};

absl::StatusOr<FormatAndHeader> ReadHeader(absl::string_view bytes, const DecodeLimits& limits) {
  if (bytes.empty()) return absl::InvalidArgumentError("image is empty");
  if (static_cast<int64_t>(bytes.size()) > limits.max_bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("image is ", bytes.size(), " bytes, limit ", limits.max_bytes));
  }
  ASSIGN_OR_RETURN(const ImageFormat format, SniffFormat(bytes));
  ASSIGN_OR_RETURN(const StoredHeader stored, format == ImageFormat::kJpeg
                                                  ? ReadJpegHeader(bytes, limits)
                                                  : ReadPngHeader(bytes, limits));
  return FormatAndHeader{format, stored};
}

absl::StatusOr<ImageHeader> Peek(absl::string_view bytes, const DecodeLimits& limits) {
  ASSIGN_OR_RETURN(const FormatAndHeader header, ReadHeader(bytes, limits));
  const StoredHeader& stored = header.stored;
  ImageHeader upright{
      .format = header.format,
      .width = stored.width,
      .height = stored.height,
      .decode_bytes = stored.working_bytes + int64_t{3} * stored.width * stored.height};
  if (SwapsSides(stored.orientation)) std::swap(upright.width, upright.height);
  return upright;
}

absl::StatusOr<Image> Decode(absl::string_view bytes, const DecodeLimits& limits) {
  ASSIGN_OR_RETURN(const FormatAndHeader header, ReadHeader(bytes, limits));
  return header.format == ImageFormat::kJpeg ? DecodeJpeg(bytes, header.stored, limits.max_cpu)
                                             : DecodePng(bytes, header.stored, limits.max_cpu);
}

absl::StatusOr<std::string> Encode(const Image& image, const EncodeOptions& options) {
  const bool is_whole = image.width > 0 && image.height > 0 &&
                        image.rgb.size() == RgbBytes(image.width, image.height);
  if (!is_whole) {
    return absl::InvalidArgumentError(absl::StrCat("image of ", image.width, "x", image.height,
                                                   " pixels has ", image.rgb.size(), " bytes"));
  }
  ASSIGN_OR_RETURN(std::string bytes, options.format == ImageFormat::kJpeg
                                          ? EncodeJpeg(image, options)
                                          : EncodePng(image, options));
  bytes.shrink_to_fit();
  return bytes;
}

}  // namespace

absl::string_view MimeType(ImageFormat format) {
  return format == ImageFormat::kJpeg ? "image/jpeg" : "image/png";
}

absl::StatusOr<ImageHeader> PeekImage(absl::string_view bytes, const DecodeLimits& limits) {
  return GuardMemory([&] { return Peek(bytes, limits); });
}

absl::StatusOr<Image> DecodeImage(absl::string_view bytes, const DecodeLimits& limits) {
  return GuardMemory([&] { return Decode(bytes, limits); });
}

absl::StatusOr<std::string> EncodeImage(const Image& image, const EncodeOptions& options) {
  return GuardMemory([&] { return Encode(image, options); });
}

}  // namespace image_variations
