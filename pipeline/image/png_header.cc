#include "pipeline/image/png_header.h"

#include <iterator>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/byte_order.h"
#include "pipeline/image/exif_orientation.h"

namespace image_variations {
namespace {

constexpr size_t kFrameBytes = 12;  // a chunk's length, type and checksum
constexpr size_t kHeaderBytes = 13;
constexpr size_t kMaxExifBytes = 64 << 10;  // a longer eXIf is not read
constexpr uint32_t kMaxNumber = 0x7FFFFFFF;
constexpr int64_t kMaxBytesPerPixel = 4;  // of the limit's pixels: 16-bit pictures may have fewer

// libpng's structs and zlib's window; its row buffers, at 16-bit RGBA.
constexpr int64_t kFixedBytes = 256 << 10;
constexpr int64_t kBytesPerColumn = 32;
constexpr int64_t kInterlacedPixelBytes =
    4;  // all of them are held, with alpha, until the last pass

struct Chunk {
  absl::string_view type;
  absl::string_view content;
};

// The chunk at `at`; moves `at` behind it.
absl::StatusOr<Chunk> NextChunk(absl::string_view bytes, size_t& at) {
  const size_t left = bytes.size() - at;
  if (left < kFrameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("PNG is truncated: no IEND chunk in its ", bytes.size(), " bytes"));
  }
  const size_t length = ReadBigEndian(bytes, at, 4);
  const absl::string_view type = bytes.substr(at + 4, 4);
  if (length > left - kFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("PNG is truncated: chunk ",
                                                   absl::CHexEscape(type), " has ", length,
                                                   " bytes, ", left - kFrameBytes, " are there"));
  }
  const Chunk chunk{type, bytes.substr(at + 8, length)};
  at += kFrameBytes + length;
  return chunk;
}

// Of an unknown colour type: 0, libpng refuses it.
int64_t ChannelsOf(uint32_t color_type) {
  constexpr int64_t kChannels[] = {1, 0, 3, 1, 2, 0, 4};
  return color_type < std::size(kChannels) ? kChannels[color_type] : 0;
}

// Bounds the time that inflating takes, as CheckSize() bounds memory.
absl::Status CheckInflatedBytes(const Chunk& header, int64_t pixels, const DecodeLimits& limits) {
  const int64_t bits = ReadBigEndian(header.content, 8, 1);
  const int64_t bytes = pixels * bits * ChannelsOf(ReadBigEndian(header.content, 9, 1)) / 8;
  if (bytes <= kMaxBytesPerPixel * limits.max_pixels) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("PNG has ", bytes, " bytes of pixels, limit ",
                                            kMaxBytesPerPixel * limits.max_pixels));
}

absl::StatusOr<StoredHeader> ReadImageHeader(const Chunk& chunk, const DecodeLimits& limits) {
  if (chunk.type != "IHDR" || chunk.content.size() != kHeaderBytes) {
    return absl::InvalidArgumentError("PNG does not begin with an IHDR chunk of 13 bytes");
  }
  const int64_t width = ReadBigEndian(chunk.content, 0, 4);
  const int64_t height = ReadBigEndian(chunk.content, 4, 4);
  const bool interlaced = chunk.content[12] != 0;
  if (width == 0 || height == 0 || width > kMaxNumber || height > kMaxNumber) {
    return absl::InvalidArgumentError(absl::StrCat("PNG has size ", width, "x", height));
  }
  RETURN_IF_ERROR(CheckSize(width, height, limits));
  RETURN_IF_ERROR(CheckInflatedBytes(chunk, width * height, limits));
  return StoredHeader{.width = static_cast<int>(width),
                      .height = static_cast<int>(height),
                      .working_bytes = kFixedBytes + kBytesPerColumn * width +
                                       (interlaced ? kInterlacedPixelBytes * width * height : 0)};
}

}  // namespace

absl::StatusOr<StoredHeader> ReadPngHeader(absl::string_view bytes, const DecodeLimits& limits) {
  size_t at = kPngSignature.size();
  ASSIGN_OR_RETURN(Chunk chunk, NextChunk(bytes, at));
  ASSIGN_OR_RETURN(StoredHeader header, ReadImageHeader(chunk, limits));
  std::optional<int> orientation;
  while (chunk.type != "IEND") {
    ASSIGN_OR_RETURN(chunk, NextChunk(bytes, at));
    if (chunk.type == "eXIf" && !orientation && chunk.content.size() <= kMaxExifBytes) {
      orientation = ReadExifOrientation(chunk.content);
    }
  }
  header.orientation = orientation.value_or(1);
  return header;
}

}  // namespace image_variations
