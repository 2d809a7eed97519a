// 200 noise pictures of random sizes from 1x1 to 4000x17, against what diffusers' users run:
// tools/make_preprocessing_golden.py.
#include "pipeline/model/preprocessing.h"

#include "ATen/TensorOperators.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace image_variations {
namespace {

constexpr char kGolden[] = "tests/golden/preprocessing.safetensors";

struct NoisePicture {
  Image image;
  int side = 0;  // of the tower
};

// Byte i of picture k hashes i and k, as the script's.
Image Noise(int width, int height, uint32_t k) {
  Image image{width, height, {}};
  image.rgb.resize(RgbBytes(width, height));
  for (size_t i = 0; i < image.rgb.size(); ++i) {
    uint32_t bits = static_cast<uint32_t>(i) * 2654435761u + k;
    bits = (bits ^ (bits >> 15)) * 2246822519u;
    image.rgb[i] = static_cast<uint8_t>(bits >> 24);
  }
  return image;
}

class PreprocessingTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = SafetensorsFile::Open(kGolden);
    ASSERT_TRUE(file.ok()) << file.status();
    sizes_ = GoldenValues(*file, "sizes").value();
    card_ = GoldenValues(*file, "card").value();
    clip_ = GoldenValues(*file, "clip").value();
    ASSERT_EQ(picture_count(), 200u);
  }

  size_t picture_count() const { return sizes_.size() / 3; }

  NoisePicture Picture(size_t k) const {
    const auto number = [&](size_t i) { return static_cast<int>(sizes_[3 * k + i]); };
    return {Noise(number(0), number(1), static_cast<uint32_t>(k)), number(2)};
  }

  // The values of `golden` that begin at `at`, against those of `actual`; moves `at` behind them.
  static double LargestDifference(const std::vector<float>& golden, const at::Tensor& actual,
                                  size_t* at) {
    const at::Tensor flat = actual.contiguous();
    const auto count = static_cast<size_t>(flat.numel());
    const Difference difference = Compare(absl::MakeConstSpan(golden).subspan(*at, count),
                                          {flat.const_data_ptr<float>(), count});
    *at += count;
    return difference.max;
  }

  std::vector<float> sizes_, card_, clip_;
};

TEST_F(PreprocessingTest, TheCardsIsTorchvisionsBicubicResizeAndNormalize) {
  size_t at = 0;
  for (size_t k = 0; k < picture_count(); ++k) {
    const NoisePicture picture = Picture(k);
    const at::Tensor pixels = PreprocessAsModelCard(picture.image, picture.side, {});
    EXPECT_LE(LargestDifference(card_, pixels, &at), 1e-5)
        << picture.image.width << "x" << picture.image.height;
  }
  EXPECT_EQ(at, card_.size());
}

TEST_F(PreprocessingTest, ClipsIsPillowsAntialiasedResizeAndCrop) {
  size_t at = 0;
  for (size_t k = 0; k < picture_count(); ++k) {
    const NoisePicture picture = Picture(k);
    const PreprocessorConfig levels = {.shortest_edge = picture.side,
                                       .crop_height = picture.side,
                                       .crop_width = picture.side,
                                       .image_mean = {0, 0, 0},
                                       .image_std = {1, 1, 1}};
    const at::Tensor pixels = PreprocessAsClip(picture.image, levels) * 255;
    EXPECT_LE(LargestDifference(clip_, pixels, &at), 1e-3)  // the same level
        << picture.image.width << "x" << picture.image.height;
  }
  EXPECT_EQ(at, clip_.size());
}

// All of it at the crop's height would be 3,670,016 x 224 pixels.
TEST(Preprocessing, OnlyTheMiddleOfALongLineIsComputed) {
  const at::Tensor pixels = PreprocessAsClip(Noise(16384, 1, 0), {});
  EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{1, 3, 224, 224}));
}

// transformers' center_crop pads so.
TEST(Preprocessing, ACropLargerThanThePictureIsPaddedWithTheOddLineInFront) {
  const PreprocessorConfig levels = {.shortest_edge = 1,
                                     .crop_height = 4,
                                     .crop_width = 4,
                                     .image_mean = {0, 0, 0},
                                     .image_std = {1, 1, 1}};
  const at::Tensor pixels = PreprocessAsClip({1, 1, {255, 255, 255}}, levels);
  EXPECT_EQ(pixels.narrow(2, 2, 1).narrow(3, 2, 1).sum().item<float>(), 3);
  EXPECT_EQ(pixels.sum().item<float>(), 3);
}

}  // namespace
}  // namespace image_variations
