#include "pipeline/image/jpeg_header.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/byte_order.h"
#include "pipeline/image/exif_orientation.h"

namespace image_variations {
namespace {

// Marker codes of ITU-T T.81, table B.1.
constexpr uint8_t kTemporary = 0x01;
constexpr uint8_t kBaseline = 0xC0, kProgressive = 0xC2, kLossless = 0xC3;
constexpr uint8_t kHuffmanTables = 0xC4, kReservedFrame = 0xC8, kArithmeticTables = 0xCC;
constexpr uint8_t kFirstArithmeticFrame = 0xC9, kLastFrame = 0xCF;
constexpr uint8_t kFirstRestart = 0xD0, kStartOfImage = 0xD8, kEndOfImage = 0xD9;
constexpr uint8_t kStartOfScan = 0xDA, kApp1 = 0xE1;

constexpr absl::string_view kExifSignature("Exif\0\0", 6);

// libjpeg's tables and row buffers: a constant part and, at 4x4 sampling of four components, this
// many bytes per column.
constexpr int64_t kFixedBytes = 1 << 20;
constexpr int64_t kBytesPerColumn = 1024;

bool IsFrame(uint8_t marker) {
  return marker >= kBaseline && marker <= kLastFrame && marker != kHuffmanTables &&
         marker != kReservedFrame && marker != kArithmeticTables;
}

bool HasNoSegment(uint8_t marker) {  // TEM, RST0 to RST7, SOI
  return marker == kTemporary || (marker >= kFirstRestart && marker <= kStartOfImage);
}

absl::Status Truncated(absl::string_view bytes) {
  return absl::InvalidArgumentError(
      absl::StrCat("JPEG is truncated: no end-of-image marker in its ", bytes.size(), " bytes"));
}

class MarkerReader {
 public:
  explicit MarkerReader(absl::string_view bytes) : bytes_(bytes), at_(2) {}

  // Skips what is no marker, entropy-coded data included, as libjpeg's next_marker() does.
  absl::StatusOr<uint8_t> NextMarker() {
    while ((at_ = bytes_.find('\xFF', at_)) != absl::string_view::npos) {
      at_ = bytes_.find_first_not_of('\xFF', at_);
      if (at_ == absl::string_view::npos) break;
      if (const auto marker = static_cast<uint8_t>(bytes_[at_++]); marker != 0) return marker;
    }
    return Truncated(bytes_);
  }

  // What follows the marker's length field.
  absl::StatusOr<absl::string_view> Segment() {
    if (bytes_.size() - at_ < 2) return Truncated(bytes_);
    const size_t length = ReadBigEndian(bytes_, at_, 2);
    if (length < 2) return absl::InvalidArgumentError("JPEG has a segment shorter than its length");
    if (bytes_.size() - at_ < length) return Truncated(bytes_);
    const absl::string_view segment = bytes_.substr(at_ + 2, length - 2);
    at_ += length;
    return segment;
  }

 private:
  absl::string_view bytes_;
  size_t at_;
};

struct Frame {
  int64_t width = 0;
  int64_t height = 0;
  bool progressive = false;
  int64_t coefficient_bytes = 0;  // what libjpeg keeps when there is more than one scan
};

absl::Status CheckFrameKind(uint8_t marker) {
  if (marker <= kProgressive) return absl::OkStatus();
  const absl::string_view kind = marker >= kFirstArithmeticFrame ? "arithmetic-coded"
                                 : marker == kLossless           ? "lossless"
                                                                 : "hierarchical";
  return absl::UnimplementedError(absl::StrCat(
      kind, " JPEG is not decoded, only baseline, extended and progressive Huffman-coded ones"));
}

// 16-bit coefficients of all blocks, each component padded to whole MCUs. `components` has three
// bytes each: id, sampling factors, table.
absl::StatusOr<int64_t> CoefficientBytes(const Frame& frame, absl::string_view components) {
  int64_t max_h = 1, max_v = 1, blocks_per_mcu = 0;
  for (size_t i = 1; i < components.size(); i += 3) {
    const int64_t h = static_cast<uint8_t>(components[i]) >> 4, v = components[i] & 15;
    if (h < 1 || h > 4 || v < 1 || v > 4) {
      return absl::InvalidArgumentError(
          absl::StrCat("JPEG has sampling factors ", h, "x", v, ", not 1 to 4"));
    }
    max_h = std::max(max_h, h);
    max_v = std::max(max_v, v);
    blocks_per_mcu += h * v;
  }
  const int64_t mcus_per_row = (frame.width + 8 * max_h - 1) / (8 * max_h);
  const int64_t mcu_rows = (frame.height + 8 * max_v - 1) / (8 * max_v);
  return mcus_per_row * mcu_rows * blocks_per_mcu * 64 * 2;
}

absl::StatusOr<Frame> ReadFrame(uint8_t marker, absl::string_view segment) {
  RETURN_IF_ERROR(CheckFrameKind(marker));
  if (segment.size() < 6 || segment.size() != 6 + 3 * ReadBigEndian(segment, 5, 1)) {
    return absl::InvalidArgumentError("JPEG frame header has a wrong length");
  }
  const uint32_t bits = ReadBigEndian(segment, 0, 1);
  const uint32_t component_count = ReadBigEndian(segment, 5, 1);
  Frame frame{.width = ReadBigEndian(segment, 3, 2),
              .height = ReadBigEndian(segment, 1, 2),
              .progressive = marker == kProgressive};
  if (bits != 8) {
    return absl::UnimplementedError(
        absl::StrCat("JPEG of ", bits, " bits per sample is not decoded, only 8"));
  }
  if (component_count != 1 && component_count != 3 && component_count != 4) {
    return absl::UnimplementedError(
        absl::StrCat("JPEG of ", component_count, " components is not decoded, only 1, 3 and 4"));
  }
  if (frame.width == 0) return absl::InvalidArgumentError("JPEG has width 0");
  if (frame.height == 0) {
    return absl::UnimplementedError("JPEG whose height follows its first scan is not decoded");
  }
  ASSIGN_OR_RETURN(frame.coefficient_bytes, CoefficientBytes(frame, segment.substr(6)));
  return frame;
}

absl::Status CheckScans(const Frame& frame, int64_t scans, const DecodeLimits& limits) {
  const int64_t pixels = frame.width * frame.height;
  if (scans * pixels <= limits.max_pixel_scans) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("JPEG has ", scans, " scans or more of ", pixels,
                                            " pixels, limit ", limits.max_pixel_scans,
                                            " pixels x scans"));
}

StoredHeader MakeHeader(const Frame& frame, int64_t scans, int orientation) {
  const bool keeps_coefficients = frame.progressive || scans > 1;
  return {.width = static_cast<int>(frame.width),
          .height = static_cast<int>(frame.height),
          .orientation = orientation,
          .working_bytes = kFixedBytes + kBytesPerColumn * frame.width +
                           (keeps_coefficients ? frame.coefficient_bytes : 0)};
}

}  // namespace

absl::StatusOr<StoredHeader> ReadJpegHeader(absl::string_view bytes, const DecodeLimits& limits) {
  MarkerReader reader(bytes);
  std::optional<Frame> frame;
  std::optional<int> orientation;
  int64_t scans = 0;
  while (true) {
    ASSIGN_OR_RETURN(const uint8_t marker, reader.NextMarker());
    if (marker == kEndOfImage) break;
    if (HasNoSegment(marker)) continue;
    ASSIGN_OR_RETURN(const absl::string_view segment, reader.Segment());
    if (IsFrame(marker)) {
      if (frame) return absl::InvalidArgumentError("JPEG has two frame headers");
      ASSIGN_OR_RETURN(frame, ReadFrame(marker, segment));
      RETURN_IF_ERROR(CheckSize(frame->width, frame->height, limits));
    } else if (marker == kStartOfScan) {
      if (!frame) return absl::InvalidArgumentError("JPEG has a scan before its frame header");
      RETURN_IF_ERROR(CheckScans(*frame, ++scans, limits));
    } else if (marker == kApp1 && !orientation && absl::StartsWith(segment, kExifSignature)) {
      orientation = ReadExifOrientation(segment.substr(kExifSignature.size()));
    }
  }
  if (scans == 0) return absl::InvalidArgumentError("JPEG has no picture data");
  return MakeHeader(*frame, scans, orientation.value_or(1));
}

}  // namespace image_variations
