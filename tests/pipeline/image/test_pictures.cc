#include "tests/pipeline/image/test_pictures.h"

#include <png.h>
#include <zlib.h>

#include <cstdlib>
#include <random>
// jpeglib.h needs FILE.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include "pipeline/image/byte_order.h"

namespace image_variations {
namespace {

constexpr size_t kEndOfIhdr = 8 + 12 + 13;

void SetTransparency(png_structp png, png_infop info, const PngSpec& spec) {
  png_color_16 color{};
  if (spec.transparent.size() == 1) color.gray = spec.transparent[0];
  if (spec.transparent.size() == 3) {
    color.red = spec.transparent[0];
    color.green = spec.transparent[1];
    color.blue = spec.transparent[2];
  }
  if (!spec.transparent.empty()) png_set_tRNS(png, info, nullptr, 0, &color);
  if (!spec.palette_alpha.empty()) {
    png_set_tRNS(png, info, spec.palette_alpha.data(), static_cast<int>(spec.palette_alpha.size()),
                 nullptr);
  }
}

void SetPalette(png_structp png, png_infop info, const PngSpec& spec) {
  std::vector<png_color> colors;
  for (size_t i = 0; i < spec.palette.size(); i += 3) {
    colors.push_back({spec.palette[i], spec.palette[i + 1], spec.palette[i + 2]});
  }
  if (!colors.empty()) png_set_PLTE(png, info, colors.data(), static_cast<int>(colors.size()));
}

J_COLOR_SPACE StoredSpace(JpegColor color) {
  switch (color) {
    case JpegColor::kGray:
      return JCS_GRAYSCALE;
    case JpegColor::kYcc:
      return JCS_YCbCr;
    case JpegColor::kRgb:
      return JCS_RGB;
    case JpegColor::kCmyk:
      return JCS_CMYK;
    case JpegColor::kYcck:
      return JCS_YCCK;
  }
  std::abort();
}

void Configure(jpeg_compress_struct& jpeg, const JpegSpec& spec) {
  const bool is_cmyk = spec.color == JpegColor::kCmyk || spec.color == JpegColor::kYcck;
  jpeg.image_width = static_cast<JDIMENSION>(spec.width);
  jpeg.image_height = static_cast<JDIMENSION>(spec.height);
  jpeg.input_components = spec.color == JpegColor::kGray ? 1 : is_cmyk ? 4 : 3;
  jpeg.in_color_space = spec.color == JpegColor::kGray ? JCS_GRAYSCALE
                        : is_cmyk                      ? JCS_CMYK
                                                       : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_colorspace(&jpeg, StoredSpace(spec.color));
  jpeg_set_quality(&jpeg, 100, TRUE);
  for (int i = 0; i < jpeg.num_components; ++i) {
    jpeg.comp_info[i].h_samp_factor = jpeg.comp_info[i].v_samp_factor = 1;
  }
  if (spec.progressive) jpeg_simple_progression(&jpeg);
  if (!spec.adobe_marker) jpeg.write_Adobe_marker = FALSE;
}

}  // namespace

std::string MakePng(const PngSpec& spec, const std::vector<uint8_t>& rows) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp writer, png_bytep from, size_t count) {
        static_cast<std::string*>(png_get_io_ptr(writer))
            ->append(reinterpret_cast<const char*>(from), count);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, static_cast<png_uint_32>(spec.width),
               static_cast<png_uint_32>(spec.height), spec.bit_depth, static_cast<int>(spec.color),
               spec.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
  SetPalette(png, info, spec);
  SetTransparency(png, info, spec);
  if (!spec.exif.empty()) {
    auto exif = std::vector<png_byte>(spec.exif.begin(), spec.exif.end());
    png_set_eXIf_1(png, info, static_cast<png_uint_32>(exif.size()), exif.data());
  }
  png_write_info(png, info);
  const size_t row_bytes = png_get_rowbytes(png, info);
  std::vector<png_bytep> pointers;
  for (size_t y = 0; y < static_cast<size_t>(spec.height); ++y) {
    pointers.push_back(const_cast<png_bytep>(rows.data()) + y * row_bytes);
  }
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  for (const std::string& chunk : spec.ancillary) bytes.insert(kEndOfIhdr, chunk);
  return bytes;
}

std::string MakePngChunk(absl::string_view type, absl::string_view content) {
  const std::string body = std::string(type) + std::string(content);
  std::string chunk;
  AppendBigEndian(chunk, static_cast<uint32_t>(content.size()), 4);
  chunk += body;
  const auto checksum =
      crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  AppendBigEndian(chunk, static_cast<uint32_t>(checksum), 4);
  return chunk;
}

std::string MakeJpeg(const JpegSpec& spec, const std::vector<uint8_t>& samples) {
  jpeg_error_mgr errors{};
  jpeg_compress_struct jpeg{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &buffer, &size);
  Configure(jpeg, spec);
  jpeg_start_compress(&jpeg, TRUE);
  if (!spec.exif.empty()) {
    const std::string segment = std::string("Exif\0\0", 6) + spec.exif;
    jpeg_write_marker(&jpeg, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(segment.data()),
                      static_cast<unsigned>(segment.size()));
  }
  const size_t row_bytes = jpeg.image_width * static_cast<size_t>(jpeg.input_components);
  while (jpeg.next_scanline < jpeg.image_height) {
    auto* row = const_cast<JSAMPROW>(samples.data()) + jpeg.next_scanline * row_bytes;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::string bytes(reinterpret_cast<const char*>(buffer), size);
  std::free(buffer);
  return bytes;
}

std::string MakeExif(int orientation, bool big_endian) {
  const char value = static_cast<char>(orientation);
  const char big[] = {'M', 'M', 0, 42, 0, 0, 0,     8, 0, 1, 1, 0x12, 0,
                      3,   0,   0, 0,  1, 0, value, 0, 0, 0, 0, 0,    0};
  const char little[] = {'I', 'I', 42, 0, 8, 0,     0, 0, 1, 0, 0x12, 1, 3,
                         0,   1,   0,  0, 0, value, 0, 0, 0, 0, 0,    0, 0};
  return big_endian ? std::string(big, sizeof(big)) : std::string(little, sizeof(little));
}

Image MakeNoise(int width, int height) {
  std::mt19937 random(static_cast<unsigned>(width * 1000 + height));
  Image image{.width = width, .height = height, .rgb = {}};
  for (int i = 0; i < 3 * width * height; ++i) {
    image.rgb.push_back(static_cast<uint8_t>(random()));
  }
  return image;
}

}  // namespace image_variations
