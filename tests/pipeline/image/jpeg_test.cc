#include "pipeline/image/jpeg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

using Bytes = std::vector<uint8_t>;
using ::testing::HasSubstr;

constexpr char kFrame = '\xC0', kScan = '\xDA';

size_t FindMarker(const std::string& jpeg, char marker) {
  return jpeg.find(std::string("\xFF") + marker);
}

Bytes Repeat(const Bytes& pixel, int count) {
  Bytes samples;
  for (int i = 0; i < count; ++i) samples.insert(samples.end(), pixel.begin(), pixel.end());
  return samples;
}

// The first pixel of a 16x16 picture of one colour.
Bytes DecodedColor(const JpegSpec& spec, const Bytes& pixel) {
  JpegSpec square = spec;
  square.width = square.height = 16;
  const absl::StatusOr<Image> image = DecodeImage(MakeJpeg(square, Repeat(pixel, 256)), {});
  EXPECT_TRUE(image.ok()) << image.status();
  return image.ok() ? Bytes(image->rgb.begin(), image->rgb.begin() + 3) : Bytes{};
}

MATCHER_P2(IsNear, expected, tolerance, "") {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::abs(arg[i] - expected[i]) > tolerance) return false;
  }
  return arg.size() == expected.size();
}

TEST(Jpeg, GrayBecomesThreeEqualChannels) {
  EXPECT_EQ(DecodedColor({.color = JpegColor::kGray}, {100}), (Bytes{100, 100, 100}));
}

TEST(Jpeg, YccAndRgbStoredColoursAreRead) {
  EXPECT_THAT(DecodedColor({.color = JpegColor::kYcc}, {200, 100, 50}),
              IsNear(Bytes{200, 100, 50}, 1));
  EXPECT_EQ(DecodedColor({.color = JpegColor::kRgb}, {200, 100, 50}), (Bytes{200, 100, 50}));
}

// Adobe stores 255 - ink: each channel is stored ink x stored black / 255.
TEST(Jpeg, AdobeCmykIsInverted) {
  EXPECT_EQ(DecodedColor({.color = JpegColor::kCmyk}, {255, 128, 0, 255}), (Bytes{255, 128, 0}));
  EXPECT_EQ(DecodedColor({.color = JpegColor::kCmyk}, {255, 128, 0, 51}), (Bytes{51, 26, 0}));
}

TEST(Jpeg, YcckIsReadAsAdobeCmyk) {
  EXPECT_THAT(DecodedColor({.color = JpegColor::kYcck}, {200, 128, 60, 255}),
              IsNear(Bytes{200, 128, 60}, 1));
}

TEST(Jpeg, CmykWithoutAdobesMarkerIsInk) {
  EXPECT_EQ(DecodedColor({.color = JpegColor::kCmyk, .adobe_marker = false}, {0, 127, 255, 0}),
            (Bytes{255, 128, 0}));
}

TEST(Jpeg, AProgressivePictureHasThePixelsOfASequentialOne) {
  const Image image = MakeNoise(37, 23);
  const auto decoded = [&](bool progressive) {
    const JpegSpec spec{.width = 37, .height = 23, .progressive = progressive};
    return *DecodeImage(MakeJpeg(spec, image.rgb), {});
  };
  EXPECT_TRUE(decoded(true) == decoded(false));
}

// Quadrants A B above C D, each of one gray; their order after turning.
std::string UprightQuadrants(int orientation) {
  Bytes samples;
  for (int y = 0; y < 48; ++y) {
    for (int x = 0; x < 32; ++x) {
      samples.push_back(static_cast<uint8_t>(20 + 60 * ((x >= 16 ? 1 : 0) + (y >= 24 ? 2 : 0))));
    }
  }
  const std::string jpeg = MakeJpeg(
      {.width = 32, .height = 48, .color = JpegColor::kGray, .exif = MakeExif(orientation)},
      samples);
  const absl::StatusOr<ImageHeader> header = PeekImage(jpeg, {});
  const absl::StatusOr<Image> image = DecodeImage(jpeg, {});
  if (!header.ok() || !image.ok()) return "not decoded";
  EXPECT_EQ(header->width, image->width);
  EXPECT_EQ(header->height, image->height);
  std::string names;
  for (const int y : {4, image->height - 4}) {
    for (const int x : {4, image->width - 4}) {
      const int gray = image->rgb[static_cast<size_t>(3 * (y * image->width + x))];
      names.push_back("ABCD"[(gray + 10) / 60]);
    }
  }
  return names;
}

TEST(Jpeg, ExifOrientationIsApplied) {
  EXPECT_EQ(UprightQuadrants(1), "ABCD");
  EXPECT_EQ(UprightQuadrants(2), "BADC");
  EXPECT_EQ(UprightQuadrants(3), "DCBA");
  EXPECT_EQ(UprightQuadrants(4), "CDAB");
  EXPECT_EQ(UprightQuadrants(5), "ACBD");
  EXPECT_EQ(UprightQuadrants(6), "CADB");
  EXPECT_EQ(UprightQuadrants(7), "DBCA");
  EXPECT_EQ(UprightQuadrants(8), "BDAC");
}

TEST(Jpeg, RepeatedScansOfAProgressivePictureAreOutOfRange) {
  const JpegSpec spec{.width = 64, .height = 64, .color = JpegColor::kGray, .progressive = true};
  std::string jpeg = MakeJpeg(spec, Bytes(64 * 64, 128));
  const size_t last_scan = jpeg.rfind(std::string("\xFF") + kScan);
  const std::string scan = jpeg.substr(last_scan, jpeg.size() - 2 - last_scan);
  for (int i = 0; i < 100; ++i) jpeg.insert(last_scan, scan);
  const absl::Status status = PeekImage(jpeg, {.max_pixel_scans = 64 * 64 * 50}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("51 scans"));
}

TEST(Jpeg, CoefficientsOfAProgressivePictureAreCountedAsMemory) {
  const Bytes samples(3 * 256 * 256);
  const auto decode_bytes = [&](bool progressive) {
    const JpegSpec spec{.width = 256, .height = 256, .progressive = progressive};
    return PeekImage(MakeJpeg(spec, samples), {})->decode_bytes;
  };
  EXPECT_EQ(decode_bytes(true) - decode_bytes(false), 2 * 3 * 256 * 256);
}

TEST(Jpeg, PixelsOverTheLimitAreOutOfRange) {
  const std::string jpeg = MakeJpeg({.width = 16, .height = 16}, Bytes(3 * 256));
  EXPECT_EQ(PeekImage(jpeg, {.max_pixels = 255}).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(PeekImage(jpeg, {.max_side = 15}).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(PeekImage(jpeg, {.max_pixels = 256, .max_side = 16}).ok());
}

// A picture whose frame header has `value` at `offset` behind its marker.
absl::Status StatusWithFrameByte(size_t offset, char value) {
  std::string jpeg = MakeJpeg({.width = 16, .height = 16}, Bytes(3 * 256));
  jpeg[FindMarker(jpeg, kFrame) + offset] = value;
  return DecodeImage(jpeg, {}).status();
}

TEST(Jpeg, CodingsThatAreNotDecodedAreNamed) {
  const absl::Status arithmetic = StatusWithFrameByte(1, '\xC9');
  EXPECT_EQ(arithmetic.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(arithmetic.message()), HasSubstr("arithmetic-coded"));
  const absl::Status lossless = StatusWithFrameByte(1, '\xC3');
  EXPECT_EQ(lossless.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(lossless.message()), HasSubstr("lossless"));
  const absl::Status twelve_bits = StatusWithFrameByte(4, 12);
  EXPECT_EQ(twelve_bits.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(twelve_bits.message()), HasSubstr("12 bits"));
}

TEST(Jpeg, AnImpossibleFrameHeaderIsInvalid) {
  const size_t component_count = 9, sampling = 11;
  EXPECT_EQ(StatusWithFrameByte(component_count, 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(StatusWithFrameByte(sampling, 0x05).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Jpeg, AMissingEndMarkerIsTruncation) {
  const std::string jpeg = MakeJpeg({.width = 16, .height = 16}, Bytes(3 * 256));
  const absl::Status status = DecodeImage(jpeg.substr(0, jpeg.size() - 2), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("truncated"));
}

TEST(Jpeg, APictureCutShortButEndedIsDamaged) {
  const Image image = MakeNoise(64, 64);
  const std::string jpeg = MakeJpeg({.width = 64, .height = 64}, image.rgb);
  const absl::Status status =
      DecodeImage(jpeg.substr(0, jpeg.size() / 2) + "\xFF\xD9", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("damaged"));
}

TEST(Jpeg, ExtraneousBytesBeforeAMarkerAndBehindTheEndAreHarmless) {
  std::string jpeg = MakeJpeg({.width = 16, .height = 16}, Bytes(3 * 256, 128));
  const absl::StatusOr<Image> plain = DecodeImage(jpeg, {});
  jpeg.insert(FindMarker(jpeg, kFrame), "extraneous");
  jpeg += "behind the end";
  const absl::StatusOr<Image> image = DecodeImage(jpeg, {});
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE(*image == *plain);
}

TEST(Jpeg, ChromaIsWholeFromQuality90On) {
  const auto luma_sampling = [](int quality) {
    const std::string jpeg =
        *EncodeImage(MakeNoise(32, 32), {.format = ImageFormat::kJpeg, .jpeg_quality = quality});
    return static_cast<int>(jpeg[FindMarker(jpeg, kFrame) + 11]);
  };
  EXPECT_EQ(luma_sampling(89), 0x22);
  EXPECT_EQ(luma_sampling(90), 0x11);
}

TEST(Jpeg, AnEncodedPictureIsCloseToItsPixels) {
  Image image{.width = 33, .height = 19, .rgb = {}};
  for (int i = 0; i < 33 * 19; ++i) {
    const auto level = static_cast<uint8_t>(5 * (i % 33) + 4 * (i / 33));
    image.rgb.insert(image.rgb.end(), {level, static_cast<uint8_t>(255 - level), 128});
  }
  const EncodeOptions options{.format = ImageFormat::kJpeg};
  const absl::StatusOr<Image> decoded = DecodeImage(*EncodeImage(image, options), {});
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_THAT(decoded->rgb, IsNear(image.rgb, 6));
}

TEST(Jpeg, EncodingTwiceGivesTheSameBytes) {
  const EncodeOptions options{.format = ImageFormat::kJpeg, .parameters = "Steps: 25"};
  EXPECT_EQ(*EncodeImage(MakeNoise(31, 17), options), *EncodeImage(MakeNoise(31, 17), options));
}

TEST(Jpeg, AQualityOutsideOneToAHundredIsInvalid) {
  for (const int quality : {0, 101}) {
    const EncodeOptions options{.format = ImageFormat::kJpeg, .jpeg_quality = quality};
    EXPECT_EQ(EncodeImage(MakeNoise(1, 1), options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace image_variations
