#include "pipeline/image/exif_orientation.h"

#include <gtest/gtest.h>

#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

constexpr uint8_t kA = 10, kB = 20, kC = 30, kD = 40;

TEST(ReadExifOrientation, ReadsBothByteOrders) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    EXPECT_EQ(ReadExifOrientation(MakeExif(orientation, true)), orientation);
    EXPECT_EQ(ReadExifOrientation(MakeExif(orientation, false)), orientation);
  }
}

TEST(ReadExifOrientation, AValueOutsideOneToEightIsUpright) {
  EXPECT_EQ(ReadExifOrientation(MakeExif(0)), 1);
  EXPECT_EQ(ReadExifOrientation(MakeExif(9)), 1);
}

TEST(ReadExifOrientation, WhatIsNoTiffIsUpright) {
  EXPECT_EQ(ReadExifOrientation(""), 1);
  EXPECT_EQ(ReadExifOrientation("MM"), 1);
  EXPECT_EQ(ReadExifOrientation("this is no TIFF structure"), 1);
}

TEST(ReadExifOrientation, ATruncatedDirectoryIsReadNoFurtherThanItGoes) {
  const std::string exif = MakeExif(6);
  for (size_t length = 0; length < 20; ++length) {  // the value ends at byte 20
    EXPECT_EQ(ReadExifOrientation(exif.substr(0, length)), 1) << length;
  }
}

TEST(ReadExifOrientation, ADirectoryOffsetBehindTheEndIsUpright) {
  std::string exif = MakeExif(6);
  exif[4] = exif[5] = exif[6] = exif[7] = '\xFF';
  EXPECT_EQ(ReadExifOrientation(exif), 1);
}

// Puts A B above C D and returns the upright picture's four pixels in reading order.
std::vector<uint8_t> Upright(int orientation) {
  UprightImage upright({.width = 2, .height = 2, .orientation = orientation});
  const uint8_t top[] = {kA, kA, kA, kB, kB, kB};
  const uint8_t bottom[] = {kC, kC, kC, kD, kD, kD};
  upright.PutRow(0, top);
  upright.PutRow(1, bottom);
  const Image image = std::move(upright).Take();
  return {image.rgb[0], image.rgb[3], image.rgb[6], image.rgb[9]};
}

using Pixels = std::vector<uint8_t>;

TEST(UprightImage, PutsEveryPixelWhereExifSaysItStands) {
  EXPECT_EQ(Upright(1), (Pixels{kA, kB, kC, kD}));
  EXPECT_EQ(Upright(2), (Pixels{kB, kA, kD, kC}));
  EXPECT_EQ(Upright(3), (Pixels{kD, kC, kB, kA}));
  EXPECT_EQ(Upright(4), (Pixels{kC, kD, kA, kB}));
  EXPECT_EQ(Upright(5), (Pixels{kA, kC, kB, kD}));
  EXPECT_EQ(Upright(6), (Pixels{kC, kA, kD, kB}));
  EXPECT_EQ(Upright(7), (Pixels{kD, kB, kC, kA}));
  EXPECT_EQ(Upright(8), (Pixels{kB, kD, kA, kC}));
}

TEST(UprightImage, AQuarterTurnSwapsTheSidesOfAnOddPicture) {
  UprightImage upright({.width = 3, .height = 1, .orientation = 6});
  const uint8_t row[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  upright.PutRow(0, row);
  EXPECT_EQ(std::move(upright).Take(),
            (Image{.width = 1, .height = 3, .rgb = {1, 2, 3, 4, 5, 6, 7, 8, 9}}));
}

}  // namespace
}  // namespace image_variations
