#include "pipeline/image/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/image/byte_order.h"
#include "pipeline/image/png_header.h"
#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

using Bytes = std::vector<uint8_t>;
using ::testing::HasSubstr;

Bytes DecodedPixels(const std::string& png) {
  const absl::StatusOr<Image> image = DecodeImage(png, {});
  EXPECT_TRUE(image.ok()) << image.status();
  return image.ok() ? image->rgb : Bytes{};
}

// The head of a picture without pixels.
std::string MakeHead(uint32_t width, uint32_t height, uint32_t bit_depth, uint32_t color) {
  std::string ihdr;
  AppendBigEndian(ihdr, width, 4);
  AppendBigEndian(ihdr, height, 4);
  AppendBigEndian(ihdr, bit_depth, 1);
  AppendBigEndian(ihdr, color, 1);
  AppendBigEndian(ihdr, 0, 3);
  return std::string(kPngSignature) + MakePngChunk("IHDR", ihdr) + MakePngChunk("IEND", "");
}

TEST(Png, DecodingWhatWasEncodedGivesTheSamePixels) {
  for (const auto& [width, height] :
       {std::pair{1, 1}, {1, 7}, {7, 1}, {3, 5}, {13, 17}, {64, 64}, {101, 33}, {255, 2}}) {
    const Image image = MakeNoise(width, height);
    const absl::StatusOr<std::string> png = EncodeImage(image, {});
    ASSERT_TRUE(png.ok()) << png.status();
    const absl::StatusOr<Image> decoded = DecodeImage(*png, {});
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_TRUE(*decoded == image) << width << "x" << height;
  }
}

TEST(Png, EncodingTwiceGivesTheSameBytes) {
  const EncodeOptions options{.parameters = "Steps: 25"};
  EXPECT_EQ(*EncodeImage(MakeNoise(31, 17), options), *EncodeImage(MakeNoise(31, 17), options));
}

TEST(Png, GrayBecomesThreeEqualChannels) {
  const PngSpec spec{.width = 2, .color = PngColor::kGray};
  EXPECT_EQ(DecodedPixels(MakePng(spec, {7, 200})), (Bytes{7, 7, 7, 200, 200, 200}));
}

TEST(Png, FewGrayBitsAreSpreadOverTheWholeRange) {
  const PngSpec one{.width = 2, .color = PngColor::kGray, .bit_depth = 1};
  EXPECT_EQ(DecodedPixels(MakePng(one, {0b01000000})), (Bytes{0, 0, 0, 255, 255, 255}));
  const PngSpec two{.width = 2, .color = PngColor::kGray, .bit_depth = 2};
  EXPECT_EQ(DecodedPixels(MakePng(two, {0b01100000})), (Bytes{85, 85, 85, 170, 170, 170}));
  const PngSpec four{.width = 2, .color = PngColor::kGray, .bit_depth = 4};
  EXPECT_EQ(DecodedPixels(MakePng(four, {0x1E})), (Bytes{17, 17, 17, 238, 238, 238}));
}

TEST(Png, SixteenBitsKeepTheirUpperEight) {
  const PngSpec gray{.width = 2, .color = PngColor::kGray, .bit_depth = 16};
  EXPECT_EQ(DecodedPixels(MakePng(gray, {0x12, 0xFF, 0xFE, 0xFF})),
            (Bytes{0x12, 0x12, 0x12, 0xFE, 0xFE, 0xFE}));
  const PngSpec rgb{.bit_depth = 16};
  EXPECT_EQ(DecodedPixels(MakePng(rgb, {1, 0xFF, 2, 0x80, 3, 0x00})), (Bytes{1, 2, 3}));
}

TEST(Png, AlphaIsCompositedOnWhiteRoundedToNearest) {
  const PngSpec rgba{.width = 3, .color = PngColor::kRgba};
  // 100 x 128 / 255 = 50.2, plus 127; transparent is white, opaque stays.
  EXPECT_EQ(DecodedPixels(MakePng(rgba, {100, 0, 255, 128, 9, 9, 9, 0, 1, 2, 3, 255})),
            (Bytes{177, 127, 255, 255, 255, 255, 1, 2, 3}));
  const PngSpec gray{.color = PngColor::kGrayAlpha};
  EXPECT_EQ(DecodedPixels(MakePng(gray, {100, 128})), (Bytes{177, 177, 177}));
  const PngSpec deep{.color = PngColor::kGrayAlpha, .bit_depth = 16};
  EXPECT_EQ(DecodedPixels(MakePng(deep, {100, 77, 128, 77})), (Bytes{177, 177, 177}));
}

TEST(Png, APaletteBecomesItsColours) {
  const PngSpec spec{.width = 3,
                     .color = PngColor::kPalette,
                     .bit_depth = 2,
                     .palette = {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  EXPECT_EQ(DecodedPixels(MakePng(spec, {0b10010000})), (Bytes{7, 8, 9, 4, 5, 6, 1, 2, 3}));
}

TEST(Png, TransparentPaletteEntriesAreWhite) {
  const PngSpec spec{.width = 2,
                     .color = PngColor::kPalette,
                     .palette = {1, 2, 3, 4, 5, 6},
                     .palette_alpha = {0, 255}};
  EXPECT_EQ(DecodedPixels(MakePng(spec, {0, 1})), (Bytes{255, 255, 255, 4, 5, 6}));
}

TEST(Png, TheTransparentColourIsComparedAtFullDepth) {
  const PngSpec spec{
      .width = 2, .color = PngColor::kGray, .bit_depth = 16, .transparent = {0x1234}};
  EXPECT_EQ(DecodedPixels(MakePng(spec, {0x12, 0x34, 0x12, 0x35})),
            (Bytes{255, 255, 255, 0x12, 0x12, 0x12}));
}

TEST(Png, AnInterlacedPictureHasThePixelsOfAPlainOne) {
  const Image image = MakeNoise(13, 11);
  const PngSpec spec{.width = 13, .height = 11, .interlaced = true};
  EXPECT_EQ(DecodedPixels(MakePng(spec, image.rgb)), image.rgb);
}

TEST(Png, ExifOrientationIsApplied) {
  const PngSpec spec{.width = 3, .color = PngColor::kGray, .exif = MakeExif(8)};
  const std::string png = MakePng(spec, {1, 2, 3});
  const absl::StatusOr<ImageHeader> header = PeekImage(png, {});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->width, 1);
  EXPECT_EQ(header->height, 3);
  EXPECT_EQ(DecodedPixels(png), (Bytes{3, 3, 3, 2, 2, 2, 1, 1, 1}));
}

TEST(Png, ChunksThatAreNotNeededAreSkippedWhateverTheySay) {
  const std::string long_text = "key" + std::string(1, '\0') + std::string(200'000, 'a');
  const PngSpec spec{.ancillary = {MakePngChunk("tEXt", long_text), MakePngChunk("zTXt", "broken"),
                                   MakePngChunk("iCCP", "no profile"), MakePngChunk("gAMA", "")}};
  EXPECT_EQ(DecodedPixels(MakePng(spec, {1, 2, 3})), (Bytes{1, 2, 3}));
}

TEST(Png, AHugeHeaderIsOutOfRangeBeforeAnythingIsDecoded) {
  const absl::Status status = PeekImage(MakeHead(50'000, 50'000, 8, 6), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("50000x50000"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("limit 16384"));
}

TEST(Png, PixelsOverTheLimitAreOutOfRange) {
  const absl::Status status = PeekImage(MakeHead(8'000, 8'000, 8, 2), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("64000000 pixels, limit 50000000"));
}

TEST(Png, SixteenBitPixelsCountDouble) {
  EXPECT_TRUE(PeekImage(MakeHead(7'000, 7'000, 8, 6), {}).ok());
  EXPECT_EQ(PeekImage(MakeHead(7'000, 7'000, 16, 6), {}).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(Png, TheLargestSidesThatAHeaderCanHoldAreOutOfRange) {
  EXPECT_EQ(PeekImage(MakeHead(0x7FFFFFFF, 0x7FFFFFFF, 16, 6), {}).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(PeekImage(MakeHead(0xFFFFFFFF, 1, 8, 2), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Png, APictureWithoutPixelsIsInvalid) {
  EXPECT_EQ(DecodeImage(MakeHead(8, 8, 8, 2), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PeekImage(MakeHead(0, 8, 8, 2), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Png, AWrongChecksumOfPixelsIsInvalid) {
  std::string png = *EncodeImage(MakeNoise(8, 8), {});
  const size_t checksum = png.size() - 12 - 1;  // before IEND
  png[checksum] = static_cast<char>(png[checksum] ^ 1);
  EXPECT_THAT(std::string(DecodeImage(png, {}).status().message()), HasSubstr("CRC"));
}

TEST(Png, InterlacingCostsMemoryThatTheHeaderTells) {
  const std::vector<uint8_t> rows(3 * 100 * 100);
  const PngSpec plain{.width = 100, .height = 100};
  const PngSpec interlaced{.width = 100, .height = 100, .interlaced = true};
  EXPECT_EQ(PeekImage(MakePng(interlaced, rows), {})->decode_bytes -
                PeekImage(MakePng(plain, rows), {})->decode_bytes,
            4 * 100 * 100);
}

}  // namespace
}  // namespace image_variations
