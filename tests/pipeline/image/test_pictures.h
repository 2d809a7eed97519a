// Encoded pictures of every kind that the service must read, and that its own encoder never writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "pipeline/image/image.h"

namespace image_variations {

enum class PngColor { kGray = 0, kRgb = 2, kPalette = 3, kGrayAlpha = 4, kRgba = 6 };

struct PngSpec {
  int width = 1;
  int height = 1;
  PngColor color = PngColor::kRgb;
  int bit_depth = 8;
  bool interlaced = false;
  std::vector<uint8_t> palette;          // R, G, B of each entry
  std::vector<uint8_t> palette_alpha;    // tRNS of a palette
  std::vector<uint16_t> transparent;     // tRNS of gray (one value) or RGB (three)
  std::string exif;                      // TIFF structure of an eXIf chunk
  std::vector<std::string> ancillary{};  // whole chunks, put behind IHDR
};

// `rows`: the stored rows as PNG packs them, one behind the other.
std::string MakePng(const PngSpec&, const std::vector<uint8_t>& rows);

// A chunk with its length and checksum.
std::string MakePngChunk(absl::string_view type, absl::string_view content);

enum class JpegColor { kGray, kYcc, kRgb, kCmyk, kYcck };

struct JpegSpec {
  int width = 1;
  int height = 1;
  JpegColor color = JpegColor::kYcc;
  bool progressive = false;
  bool adobe_marker = true;  // of CMYK and YCCK
  std::string exif;          // TIFF structure of an APP1 segment
};

// `samples`: interleaved gray, RGB or CMYK values, at quality 100 and 4:4:4.
std::string MakeJpeg(const JpegSpec&, const std::vector<uint8_t>& samples);

// A TIFF structure that says `orientation`.
std::string MakeExif(int orientation, bool big_endian = true);

// Noise that is the same in every run.
Image MakeNoise(int width, int height);

}  // namespace image_variations
