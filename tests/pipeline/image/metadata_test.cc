#include "pipeline/image/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "pipeline/image/byte_order.h"
#include "pipeline/image/png_header.h"
#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSource[] =
    "<Iptc4xmpExt:DigitalSourceType>"
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    "</Iptc4xmpExt:DigitalSourceType>";

std::string Encode(ImageFormat format, std::optional<std::string> parameters) {
  return *EncodeImage(MakeNoise(4, 4), {.format = format, .parameters = std::move(parameters)});
}

// Contents of the PNG chunks of one type.
std::vector<std::string> FindChunks(const std::string& png, absl::string_view type) {
  std::vector<std::string> found;
  for (size_t at = kPngSignature.size(); at < png.size();) {
    const size_t length = ReadBigEndian(png, at, 4);
    if (absl::string_view(png).substr(at + 4, 4) == type)
      found.push_back(png.substr(at + 8, length));
    at += 12 + length;
  }
  return found;
}

// Contents of the JPEG's APP1 segments that begin with `signature`, without it.
std::vector<std::string> FindApp1(const std::string& jpeg, const std::string& signature) {
  std::vector<std::string> found;
  for (size_t at = 2; jpeg[at + 1] != '\xDA';) {
    const size_t length = ReadBigEndian(jpeg, at + 2, 2);
    const std::string segment = jpeg.substr(at + 4, length - 2);
    if (jpeg[at + 1] == '\xE1' && absl::StartsWith(segment, signature)) {
      found.push_back(segment.substr(signature.size()));
    }
    at += 2 + length;
  }
  return found;
}

const std::string& ExifSignature() {
  static const std::string signature("Exif\0\0", 6);
  return signature;
}

TEST(Metadata, PngKeepsParametersInATextChunk) {
  const std::string png = Encode(ImageFormat::kPng, "Steps: 25, Seed: 7\nModel: demo");
  const std::string expected = std::string("parameters\0", 11) + "Steps: 25, Seed: 7\nModel: demo";
  EXPECT_THAT(FindChunks(png, "tEXt"), testing::ElementsAre(expected));
}

TEST(Metadata, PngTextIsLatin1WhereItCanBe) {
  const std::string png = Encode(ImageFormat::kPng, "caf\xC3\xA9");
  EXPECT_THAT(FindChunks(png, "tEXt"),
              testing::ElementsAre(std::string("parameters\0", 11) + "caf\xE9"));
}

TEST(Metadata, PngTextBeyondLatin1IsInternational) {
  const std::string png = Encode(ImageFormat::kPng, "\xF0\x9F\x90\xA7");
  EXPECT_TRUE(FindChunks(png, "tEXt").empty());
  EXPECT_THAT(FindChunks(png, "iTXt"),
              testing::Contains(std::string("parameters\0\0\0\0\0", 15) + "\xF0\x9F\x90\xA7"));
}

TEST(Metadata, PngSaysThatAModelMadeIt) {
  const std::string png = Encode(ImageFormat::kPng, "Steps: 25");
  const std::vector<std::string> texts = FindChunks(png, "iTXt");
  ASSERT_EQ(texts.size(), 1U);
  EXPECT_TRUE(absl::StartsWith(texts[0], "XML:com.adobe.xmp"));
  EXPECT_THAT(texts[0], HasSubstr(kSource));
}

TEST(Metadata, JpegKeepsParametersAsUtf16UserComment) {
  const std::string jpeg = Encode(ImageFormat::kJpeg, "Hi \xF0\x9F\x90\xA7");
  const std::vector<std::string> exif = FindApp1(jpeg, ExifSignature());
  ASSERT_EQ(exif.size(), 1U);
  const std::string comment("UNICODE\0\0H\0i\0 \xD8\x3D\xDC\x27", 18);
  const size_t exif_directory = ReadBigEndian(exif[0], 8 + 2 + 8, 4);
  const size_t comment_entry = exif_directory + 2 + 12;
  EXPECT_EQ(ReadBigEndian(exif[0], comment_entry, 2), 0x9286U);
  EXPECT_EQ(ReadBigEndian(exif[0], comment_entry + 4, 4), comment.size());
  EXPECT_EQ(exif[0].substr(ReadBigEndian(exif[0], comment_entry + 8, 4)), comment);
}

TEST(Metadata, JpegSaysThatAModelMadeIt) {
  const std::string jpeg = Encode(ImageFormat::kJpeg, "Steps: 25");
  const std::string signature("http://ns.adobe.com/xap/1.0/\0", 29);
  ASSERT_EQ(FindApp1(jpeg, signature).size(), 1U);
  EXPECT_THAT(FindApp1(jpeg, signature)[0], HasSubstr(kSource));
}

TEST(Metadata, WithoutParametersThereIsNone) {
  const std::string png = Encode(ImageFormat::kPng, std::nullopt);
  EXPECT_TRUE(FindChunks(png, "tEXt").empty());
  EXPECT_TRUE(FindChunks(png, "iTXt").empty());
  const std::string jpeg = Encode(ImageFormat::kJpeg, std::nullopt);
  EXPECT_TRUE(FindApp1(jpeg, "").empty());
}

TEST(Metadata, PixelsAreTheSameWithAndWithout) {
  for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg}) {
    EXPECT_TRUE(*DecodeImage(Encode(format, "Steps: 25"), {}) ==
                *DecodeImage(Encode(format, std::nullopt), {}));
  }
}

TEST(Metadata, WhatIsNotUtf8TextIsInvalid) {
  const std::string bad[] = {
      "\x80",              // continuation without a start
      "\xC3",              // cut short
      "\xC0\xAF",          // longer than needed
      "\xE0\x80\xAF",      // longer than needed
      "\xED\xA0\x80",      // a surrogate
      "\xF4\x90\x80\x80",  // above U+10FFFF
      "\xFF",
      std::string(1, '\0'),
  };
  for (const std::string& text : bad) {
    EXPECT_EQ(MakePngTexts("ok" + text).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(MakeExifApp1("ok" + text).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Metadata, TextThatFillsAJpegSegmentFitsAndOneCharacterMoreDoesNot) {
  const size_t fits = (65533 - MakeExifApp1("")->size()) / 2;
  EXPECT_TRUE(MakeExifApp1(std::string(fits, 'a')).ok());
  EXPECT_EQ(MakeExifApp1(std::string(fits + 1, 'a')).status().code(),
            absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace image_variations
