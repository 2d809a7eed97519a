// The decoder on pictures that others made to test decoders: PngSuite (Debian's libsixel-examples)
// and the JPEGs of Go's standard library (golang-1.19-src). tools/setup.sh installs both.
#include <png.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>
// jpeglib.h needs FILE.
#include <jpeglib.h>

#include "gtest/gtest.h"
#include "pipeline/image/codec.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;

const fs::path kPngSuite = "/usr/share/doc/libsixel-examples/examples/images/pngsuite";
const fs::path kGoPictures = "/usr/share/go-1.19/src/image/testdata";

std::string ReadFile(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::set<fs::path> FilesBelow(const fs::path& folder, const std::string& extension) {
  std::set<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == extension) files.insert(entry.path());
  }
  return files;
}

// By libpng's own high-level interface: RGB or RGBA in 8 bits, alpha put on white in floating
// point.
Image ReadByLibpng(const fs::path& path) {
  FILE* const file = std::fopen(path.c_str(), "rb");
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_read_png(png, info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_STRIP_16 | PNG_TRANSFORM_GRAY_TO_RGB,
               nullptr);
  const int channels = png_get_channels(png, info);
  Image image{static_cast<int>(png_get_image_width(png, info)),
              static_cast<int>(png_get_image_height(png, info)),
              {}};
  const png_bytepp rows = png_get_rows(png, info);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const png_bytep pixel = rows[y] + channels * x;
      const double alpha = channels == 4 ? pixel[3] / 255.0 : 1;
      for (int c = 0; c < 3; ++c) {
        image.rgb.push_back(static_cast<uint8_t>(pixel[c] * alpha + 255 * (1 - alpha) + 0.5));
      }
    }
  }
  png_destroy_read_struct(&png, &info, nullptr);
  std::fclose(file);
  return image;
}

// By libjpeg alone, as its djpeg does it but for halved green and blue. Not for CMYK.
Image ReadByLibjpeg(const fs::path& path) {
  const std::string bytes = ReadFile(path);
  jpeg_error_mgr errors{};
  jpeg_decompress_struct jpeg{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = JCS_RGB;
  jpeg.do_fancy_upsampling = jpeg.jpeg_color_space != JCS_RGB;
  jpeg_start_decompress(&jpeg);
  const size_t stride = size_t{3} * jpeg.output_width;
  Image image{static_cast<int>(jpeg.output_width), static_cast<int>(jpeg.output_height),
              std::vector<uint8_t>(stride * jpeg.output_height)};
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.rgb.data() + stride * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return image;
}

// 0 to 255, over all channels.
double MeanDifference(const Image& a, const Image& b) {
  if (a.width != b.width || a.height != b.height) return 255;
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

class PngSuite : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kPngSuite)) GTEST_SKIP() << kPngSuite << " is missing: tools/setup.sh dev";
  }
};

TEST_F(PngSuite, All160PicturesHaveLibpngsPixels) {
  int pictures = 0;
  for (const fs::path& path : FilesBelow(kPngSuite, ".png")) {
    if (path.filename().string()[0] == 'x') continue;
    ++pictures;
    const absl::StatusOr<Image> image = DecodeImage(ReadFile(path), {});
    ASSERT_TRUE(image.ok()) << path << image.status();
    EXPECT_TRUE(*image == ReadByLibpng(path)) << path;
  }
  EXPECT_EQ(pictures, 160);
}

TEST_F(PngSuite, All14CorruptFilesAreRefused) {
  int files = 0;
  for (const fs::path& path : FilesBelow(kPngSuite, ".png")) {
    if (path.filename().string()[0] != 'x') continue;
    ++files;
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeImage(ReadFile(path), {}).status())) << path;
  }
  EXPECT_EQ(files, 14);
}

class GoPictures : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kGoPictures)) GTEST_SKIP() << kGoPictures << " is missing: tools/setup.sh dev";
  }
};

TEST_F(GoPictures, All25JpegsAreDecodedAndCloseToTheirPngTwins) {
  int pictures = 0, twins = 0;
  for (const fs::path& path : FilesBelow(kGoPictures, ".jpeg")) {
    ++pictures;
    const absl::StatusOr<Image> image = DecodeImage(ReadFile(path), {});
    ASSERT_TRUE(image.ok()) << path << image.status();
    fs::path twin = path;
    twin.replace_extension(".png");
    if (!fs::exists(twin)) continue;
    ++twins;
    const double difference = MeanDifference(*image, *DecodeImage(ReadFile(twin), {}));
    std::printf("%s: %.2f/255 from its twin\n", path.filename().c_str(), difference);
    EXPECT_LE(difference, 2) << path;
  }
  EXPECT_EQ(pictures, 25);
  EXPECT_EQ(twins, 6);
}

// Coded as RGB, green and blue at half the width and height.
TEST_F(GoPictures, HalvedColoursAreRepeatedAsInTheTwin) {
  EXPECT_TRUE(*DecodeImage(ReadFile(kGoPictures / "video-001.rgb.jpeg"), {}) ==
              *DecodeImage(ReadFile(kGoPictures / "video-001.rgb.png"), {}));
}

TEST_F(GoPictures, All24JpegsInThreeOrFewerColoursHaveLibjpegsPixels) {
  int pictures = 0;
  for (const fs::path& path : FilesBelow(kGoPictures, ".jpeg")) {
    if (path.filename() == "video-001.cmyk.jpeg") continue;
    ++pictures;
    EXPECT_TRUE(*DecodeImage(ReadFile(path), {}) == ReadByLibjpeg(path)) << path;
  }
  EXPECT_EQ(pictures, 24);
}

}  // namespace
}  // namespace image_variations
