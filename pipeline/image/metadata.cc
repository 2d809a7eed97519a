#include "pipeline/image/metadata.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/byte_order.h"

namespace image_variations {
namespace {

constexpr size_t kMaxSegmentBytes = 65533;  // of one JPEG marker, without its length field
constexpr absl::string_view kXmpSignature("http://ns.adobe.com/xap/1.0/\0", 29);
// https://cv.iptc.org/newscodes/digitalsourcetype/
constexpr absl::string_view kXmpPacket =
    "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
    "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
    "<rdf:Description rdf:about=\"\""
    " xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\">"
    "<Iptc4xmpExt:DigitalSourceType>"
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    "</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>\n"
    "<?xpacket end=\"r\"?>";

// The code point at `at`, which moves behind it; 0, legal nowhere here, when there is none.
char32_t NextCodePoint(absl::string_view text, size_t& at) {
  const auto first = static_cast<uint8_t>(text[at]);
  const size_t length = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                                       : 4;
  if (length == 0 || first > 0xF4 || text.size() - at < length) return 0;
  char32_t point = length == 1 ? first : first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<uint8_t>(text[at + i]);
    if ((next & 0xC0) != 0x80) return 0;
    point = point << 6 | (next & 0x3F);
  }
  at += length;
  constexpr char32_t kShortest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = point >= 0xD800 && point < 0xE000;
  return point < kShortest[length] || is_surrogate || point > 0x10FFFF ? 0 : point;
}

absl::StatusOr<std::u32string> DecodeUtf8(absl::string_view text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t point = NextCodePoint(text, at);
    if (point == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("generation parameters are not UTF-8 text at byte ", start));
    }
    points.push_back(point);
  }
  return points;
}

std::string EncodeUtf16BigEndian(const std::u32string& points) {
  std::string bytes;
  for (const char32_t point : points) {
    if (point < 0x10000) {
      AppendBigEndian(bytes, point, 2);
    } else {
      AppendBigEndian(bytes, 0xD800 + ((point - 0x10000) >> 10), 2);
      AppendBigEndian(bytes, 0xDC00 + ((point - 0x10000) & 0x3FF), 2);
    }
  }
  return bytes;
}

// One entry of a TIFF directory. `value` is the value itself, or the offset of a longer one.
void AppendTag(std::string& tiff, uint32_t tag, uint32_t type, size_t count, size_t value) {
  AppendBigEndian(tiff, tag, 2);
  AppendBigEndian(tiff, type, 2);
  AppendBigEndian(tiff, static_cast<uint32_t>(count), 4);
  AppendBigEndian(tiff, static_cast<uint32_t>(value), 4);
}

// A big-endian TIFF structure with nothing but an EXIF directory: version 2.32 and UserComment.
std::string MakeTiff(absl::string_view user_comment) {
  constexpr uint32_t kLong = 4, kUndefined = 7;
  constexpr size_t kRootAt = 8, kEntryBytes = 12, kDirectoryBytes = 2 + 4;
  constexpr size_t kExifAt = kRootAt + kDirectoryBytes + kEntryBytes;
  constexpr size_t kCommentAt = kExifAt + kDirectoryBytes + 2 * kEntryBytes;
  constexpr size_t kVersion = 0x30323332;  // "0232"
  std::string tiff("MM\0*", 4);
  AppendBigEndian(tiff, kRootAt, 4);
  AppendBigEndian(tiff, 1, 2);
  AppendTag(tiff, 0x8769, kLong, 1, kExifAt);
  AppendBigEndian(tiff, 0, 4);  // no next directory
  AppendBigEndian(tiff, 2, 2);
  AppendTag(tiff, 0x9000, kUndefined, 4, kVersion);
  AppendTag(tiff, 0x9286, kUndefined, user_comment.size(), kCommentAt);
  AppendBigEndian(tiff, 0, 4);
  absl::StrAppend(&tiff, user_comment);
  return tiff;
}

}  // namespace

absl::StatusOr<std::vector<PngText>> MakePngTexts(absl::string_view parameters) {
  ASSIGN_OR_RETURN(const std::u32string points, DecodeUtf8(parameters));
  const bool is_latin1 =
      std::all_of(points.begin(), points.end(), [](char32_t point) { return point < 0x100; });
  const std::string text =
      is_latin1 ? std::string(points.begin(), points.end()) : std::string(parameters);
  return std::vector<PngText>{
      {.key = "parameters", .text = text, .is_utf8 = !is_latin1},
      {.key = "XML:com.adobe.xmp", .text = std::string(kXmpPacket), .is_utf8 = true}};
}

absl::StatusOr<std::string> MakeExifApp1(absl::string_view parameters) {
  ASSIGN_OR_RETURN(const std::u32string points, DecodeUtf8(parameters));
  const std::string comment =
      absl::StrCat(absl::string_view("UNICODE\0", 8), EncodeUtf16BigEndian(points));
  std::string segment = absl::StrCat(absl::string_view("Exif\0\0", 6), MakeTiff(comment));
  if (segment.size() > kMaxSegmentBytes) {
    return absl::OutOfRangeError(absl::StrCat("generation parameters need ", segment.size(),
                                              " bytes of EXIF, limit ", kMaxSegmentBytes));
  }
  return segment;
}

std::string MakeXmpApp1() { return absl::StrCat(kXmpSignature, kXmpPacket); }

}  // namespace image_variations
