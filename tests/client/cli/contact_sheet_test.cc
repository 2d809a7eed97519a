#include "client/cli/contact_sheet.h"

#include <algorithm>
#include <cstddef>

#include "client/cli/pixel_font.h"
#include "client/cli/thumbnail.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

constexpr Colour kRed = {200, 10, 20};
constexpr Colour kBlue = {10, 20, 200};
constexpr Colour kWhite = {255, 255, 255};

Image Filled(int width, int height, Colour colour) {
  Image image{.width = width, .height = height, .rgb = {}};
  for (int i = 0; i < width * height; ++i) {
    image.rgb.insert(image.rgb.end(), colour.begin(), colour.end());
  }
  return image;
}

Colour At(const Image& image, int x, int y) {
  const auto offset = static_cast<size_t>((y * image.width + x) * 3);
  return {image.rgb[offset], image.rgb[offset + 1], image.rgb[offset + 2]};
}

int CountNotWhite(const Image& image, int left, int top, int width, int height) {
  int count = 0;
  for (int y = top; y < top + height; ++y) {
    for (int x = left; x < left + width; ++x) count += At(image, x, y) != kWhite ? 1 : 0;
  }
  return count;
}

SheetCell Cell(std::optional<Image> picture, std::string title = "") {
  return {
      .picture = std::move(picture), .placeholder = "", .title = std::move(title), .subtitle = ""};
}

constexpr int kLeft = kSheetGap;
constexpr int kSecondLeft = kSheetGap + kSheetCellSize + kSheetGap;
constexpr int kSecondTop = kSheetGap + kSheetCellSize + kSheetCaptionHeight + kSheetGap;

TEST(FitToSquare, AWholeFactorRepeatsPixelsExactly) {
  Image two = Filled(2, 1, kRed);
  std::copy(kBlue.begin(), kBlue.end(), two.rgb.begin() + 3);
  const Image large = FitToSquare(two, 6);
  ASSERT_EQ(large.width, 6);
  ASSERT_EQ(large.height, 3);
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 6; ++x) EXPECT_EQ(At(large, x, y), x < 3 ? kRed : kBlue);
  }
}

TEST(FitToSquare, SmallerIsTheMeanOfWhatItCovers) {
  Image checks = Filled(2, 2, {0, 0, 0});
  for (const int i : {0, 1, 2, 9, 10, 11}) checks.rgb[static_cast<size_t>(i)] = 100;
  EXPECT_EQ(FitToSquare(checks, 1), Filled(1, 1, {50, 50, 50}));
}

TEST(FitToSquare, AThinPictureKeepsAtLeastOnePixel) {
  const Image thin = FitToSquare(Filled(5000, 1, kRed), 192);
  EXPECT_EQ(thin.width, 192);
  EXPECT_EQ(thin.height, 1);
}

TEST(FitToSquare, AnOddFactorKeepsAPlainPicturePlain) {
  EXPECT_EQ(FitToSquare(Filled(100, 77, kBlue), 192), Filled(192, 148, kBlue));
}

TEST(ContactSheet, IsAsLargeAsItsLongestRowAndItsRows) {
  ContactSheet sheet;
  sheet.AddRow({Cell(Filled(64, 64, kRed)), Cell(Filled(64, 64, kBlue))});
  sheet.AddRow({Cell(Filled(64, 64, kRed))});
  const Image drawn = sheet.Draw();
  EXPECT_EQ(drawn.width, kSheetGap + 2 * (kSheetCellSize + kSheetGap));
  EXPECT_EQ(drawn.height, kSheetGap + 2 * (kSheetCellSize + kSheetCaptionHeight + kSheetGap));
  EXPECT_EQ(drawn.rgb.size(), RgbBytes(drawn.width, drawn.height));
}

TEST(ContactSheet, ShowsEachPictureInItsCellAndNothingBetweenThem) {
  ContactSheet sheet;
  sheet.AddRow({Cell(Filled(64, 64, kRed)), Cell(Filled(64, 64, kBlue))});
  sheet.AddRow({Cell(Filled(64, 64, kBlue)), Cell(Filled(64, 64, kRed))});
  const Image drawn = sheet.Draw();
  const int far = kSheetCellSize - 1;
  EXPECT_EQ(At(drawn, kLeft, kSheetGap), kRed);
  EXPECT_EQ(At(drawn, kLeft + far, kSheetGap + far), kRed);
  EXPECT_EQ(At(drawn, kSecondLeft, kSheetGap), kBlue);
  EXPECT_EQ(At(drawn, kLeft, kSecondTop), kBlue);
  EXPECT_EQ(At(drawn, kSecondLeft + far, kSecondTop + far), kRed);
  EXPECT_EQ(CountNotWhite(drawn, kLeft + kSheetCellSize, 0, kSheetGap, drawn.height), 0);
}

TEST(ContactSheet, CentresAPictureThatIsNotSquare) {
  ContactSheet sheet;
  sheet.AddRow({Cell(Filled(64, 32, kRed))});
  const Image drawn = sheet.Draw();
  EXPECT_EQ(At(drawn, kLeft, kSheetGap + kSheetCellSize / 4 - 1), kWhite);
  EXPECT_EQ(At(drawn, kLeft, kSheetGap + kSheetCellSize / 4), kRed);
}

TEST(ContactSheet, WritesTheCaptionUnderThePictureAndInsideItsCell) {
  const auto caption_pixels = [](const std::string& title) {
    ContactSheet sheet;
    sheet.AddRow({Cell(Filled(64, 64, kRed), title)});
    const Image drawn = sheet.Draw();
    EXPECT_EQ(CountNotWhite(drawn, kLeft + kSheetCellSize, 0, kSheetGap, drawn.height), 0) << title;
    return CountNotWhite(drawn, kLeft, kSheetGap + kSheetCellSize, kSheetCellSize,
                         kSheetCaptionHeight);
  };
  EXPECT_EQ(caption_pixels(""), 0);
  EXPECT_GT(caption_pixels("seed 1"), 0);
  EXPECT_GT(caption_pixels("seed 9223372036854775807"), 0);
  EXPECT_GT(caption_pixels(std::string(200, 'W')), 0);
}

TEST(ContactSheet, APlaceholderStandsWhereThereIsNoPicture) {
  ContactSheet sheet;
  SheetCell blocked = Cell(std::nullopt);
  blocked.placeholder = "blocked by\nthe safety\nchecker";
  sheet.AddRow({Cell(Filled(64, 64, kRed)), blocked});
  const Image drawn = sheet.Draw();
  EXPECT_EQ(CountNotWhite(drawn, kSecondLeft, kSheetGap, kSheetCellSize, kSheetCellSize),
            kSheetCellSize * kSheetCellSize);
  EXPECT_NE(At(drawn, kSecondLeft, kSheetGap), kRed);
}

TEST(DrawText, LeavesOutWhatFallsOutside) {
  Image small = Filled(4, 4, kWhite);
  DrawText(small, -3, -3, "X", 2, kRed);
  DrawText(small, 100, 100, "X", 2, kRed);
  EXPECT_GT(CountNotWhite(small, 0, 0, 4, 4), 0);
}

TEST(DrawText, BytesThatAreNoPrintableAsciiBecomeAQuestionMark) {
  Image question = Filled(6, 8, kWhite);
  DrawText(question, 0, 0, "?", 1, kRed);
  Image unknown = Filled(6, 8, kWhite);
  DrawText(unknown, 0, 0, "\xc3", 1, kRed);
  EXPECT_EQ(unknown, question);
}

}  // namespace
}  // namespace image_variations::client
