#include "pipeline/image/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;

constexpr ImageFormat kFormats[] = {ImageFormat::kPng, ImageFormat::kJpeg};

TEST(Codec, EmptyBytesAreInvalid) {
  EXPECT_EQ(PeekImage("", {}).status(), absl::InvalidArgumentError("image is empty"));
  EXPECT_EQ(DecodeImage("", {}).status(), absl::InvalidArgumentError("image is empty"));
}

TEST(Codec, WhatIsNoPictureIsInvalid) {
  EXPECT_EQ(PeekImage("hello", {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Codec, OtherFormatsAreNamedAsNotDecoded) {
  const std::pair<std::string, std::string> formats[] = {
      {"GIF89a", "GIF"},
      {std::string("RIFF\0\0\0\0WEBPVP8 ", 16), "WebP"},
      {std::string("BM\x36\0\0\0", 6), "BMP"},
      {std::string("II*\0", 4), "TIFF"},
      {std::string("MM\0*", 4), "TIFF"},
      {std::string("\0\0\0\x1C"
                   "ftypavif",
                   12),
       "AVIF"},
      {std::string("\0\0\0\x18"
                   "ftypheic",
                   12),
       "HEIC"},
  };
  for (const auto& [bytes, name] : formats) {
    const absl::Status status = PeekImage(bytes, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("image is " + name + ","));
  }
}

TEST(Codec, MoreBytesThanTheLimitAreOutOfRange) {
  const std::string png = *EncodeImage(MakeNoise(4, 4), {});
  const auto size = static_cast<int64_t>(png.size());
  EXPECT_TRUE(PeekImage(png, {.max_bytes = size}).ok());
  EXPECT_EQ(DecodeImage(png, {.max_bytes = size - 1}).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(Codec, ThePeekedHeaderTellsFormatAndSize) {
  for (const ImageFormat format : kFormats) {
    const absl::StatusOr<ImageHeader> header =
        PeekImage(*EncodeImage(MakeNoise(40, 30), {.format = format}), {});
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->format, format);
    EXPECT_EQ(header->width, 40);
    EXPECT_EQ(header->height, 30);
    EXPECT_GT(header->decode_bytes, 3 * 40 * 30);
  }
}

TEST(Codec, EveryTruncationIsInvalid) {
  for (const ImageFormat format : kFormats) {
    const std::string whole = *EncodeImage(MakeNoise(9, 7), {.format = format, .parameters = "a"});
    for (size_t length = 1; length < whole.size(); ++length) {
      const absl::string_view part = absl::string_view(whole).substr(0, length);
      EXPECT_EQ(PeekImage(part, {}).status().code(), absl::StatusCode::kInvalidArgument) << length;
      EXPECT_EQ(DecodeImage(part, {}).status().code(), absl::StatusCode::kInvalidArgument)
          << length;
    }
  }
}

// Sanitizers are what makes this test sharp; without them it shows that nothing ends the process.
TEST(Codec, EveryFlippedByteIsDecodedOrRefused) {
  const DecodeLimits limits{.max_pixels = 1'000'000};
  const Image noise = MakeNoise(9, 7);
  const std::string pictures[] = {
      *EncodeImage(noise, {.parameters = "a"}),
      *EncodeImage(noise, {.format = ImageFormat::kJpeg, .parameters = "a"}),
      MakeJpeg({.width = 9, .height = 7, .progressive = true, .exif = MakeExif(6)}, noise.rgb),
      MakePng({.width = 9, .height = 7, .interlaced = true, .exif = MakeExif(6)}, noise.rgb),
  };
  for (const std::string& picture : pictures) {
    for (size_t at = 0; at < picture.size(); ++at) {
      for (const char flip : {'\x01', '\x80', '\xFF'}) {
        std::string damaged = picture;
        damaged[at] = static_cast<char>(damaged[at] ^ flip);
        const absl::StatusOr<Image> image = DecodeImage(damaged, limits);
        if (!image.ok()) continue;
        EXPECT_EQ(image->rgb.size(), RgbBytes(image->width, image->height));
      }
    }
  }
}

TEST(Codec, AnImageWhosePixelsDoNotMatchItsSizeIsInvalid) {
  for (const ImageFormat format : kFormats) {
    const EncodeOptions options{.format = format};
    EXPECT_EQ(EncodeImage({}, options).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(EncodeImage({.width = 2, .height = 2, .rgb = {1, 2, 3}}, options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(Codec, EncodedBytesTakeNoMoreMemoryThanTheyNeed) {
  const Image image{8, 8, std::vector<uint8_t>(3 * 8 * 8, 100)};
  for (const ImageFormat format : {ImageFormat::kJpeg, ImageFormat::kPng}) {
    const std::string bytes = EncodeImage(image, {.format = format}).value();
    EXPECT_EQ(bytes.capacity(), bytes.size()) << MimeType(format);
  }
}

TEST(Codec, MimeTypesAreTheRegisteredOnes) {
  EXPECT_EQ(MimeType(ImageFormat::kJpeg), "image/jpeg");
  EXPECT_EQ(MimeType(ImageFormat::kPng), "image/png");
}

}  // namespace
}  // namespace image_variations
