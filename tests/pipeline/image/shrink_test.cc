#include "pipeline/image/shrink.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

Image Gray(int width, int height, const std::vector<int>& shades) {
  Image image{width, height, {}};
  for (const int shade : shades) {
    for (int channel = 0; channel < 3; ++channel) {
      image.rgb.push_back(static_cast<uint8_t>(shade));
    }
  }
  return image;
}

TEST(Shrink, APixelIsTheMeanOfItsSquare) {
  EXPECT_EQ(Shrink(Gray(4, 2, {0, 10, 100, 100, 20, 30, 100, 101}), 2), Gray(2, 1, {15, 100}));
}

TEST(Shrink, AtTheEdgeTheMeanIsOfWhatThereIs) {
  EXPECT_EQ(Shrink(Gray(3, 1, {0, 10, 7}), 2), Gray(2, 1, {5, 7}));
}

TEST(Shrink, WhatIsSmallEnoughStays) {
  EXPECT_EQ(Shrink(Gray(2, 1, {0, 10}), 2), Gray(2, 1, {0, 10}));
}

}  // namespace
}  // namespace image_variations
