#include "client/cli/contact_sheet.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/pixel_font.h"
#include "client/cli/thumbnail.h"

namespace image_variations::client {
namespace {

constexpr Colour kInk = {0x20, 0x20, 0x24};
constexpr Colour kFaintInk = {0x70, 0x70, 0x78};
constexpr Colour kPlaceholder = {0xe6, 0xe6, 0xea};
constexpr int kCaptionScale = 2;
constexpr int kLineHeight = 20;

int TextWidth(absl::string_view text, int scale) {
  return static_cast<int>(text.size()) * kGlyphAdvance * scale - scale;
}

void Paste(const Image& picture, int left, int top, Image& sheet) {
  const ptrdiff_t row_bytes = ptrdiff_t{picture.width} * 3;
  for (int y = 0; y < picture.height; ++y) {
    const auto from = picture.rgb.begin() + y * row_bytes;
    const ptrdiff_t to = (static_cast<ptrdiff_t>(top + y) * sheet.width + left) * 3;
    std::copy(from, from + row_bytes, sheet.rgb.begin() + to);
  }
}

void PastePlaceholder(absl::string_view text, int left, int top, Image& sheet) {
  Image card{.width = kSheetCellSize, .height = kSheetCellSize, .rgb = {}};
  for (int i = 0; i < kSheetCellSize * kSheetCellSize; ++i) {
    card.rgb.insert(card.rgb.end(), kPlaceholder.begin(), kPlaceholder.end());
  }
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  int y = (kSheetCellSize - kLineHeight * static_cast<int>(lines.size())) / 2;
  for (const absl::string_view line : lines) {
    DrawText(card, (kSheetCellSize - TextWidth(line, kCaptionScale)) / 2, y, line, kCaptionScale,
             kFaintInk);
    y += kLineHeight;
  }
  Paste(card, left, top, sheet);
}

// As large as the cell allows; what is too long even when small ends in dots.
void DrawCaption(absl::string_view text, int left, int top, Colour colour, Image& sheet) {
  const int scale = TextWidth(text, kCaptionScale) <= kSheetCellSize ? kCaptionScale : 1;
  const size_t room = static_cast<size_t>(kSheetCellSize / (kGlyphAdvance * scale));
  if (text.size() <= room) return DrawText(sheet, left, top, text, scale, colour);
  DrawText(sheet, left, top, absl::StrCat(text.substr(0, room - 2), ".."), scale, colour);
}

void DrawCell(const SheetCell& cell, int left, int top, Image& sheet) {
  if (cell.picture) {
    Paste(*cell.picture, left + (kSheetCellSize - cell.picture->width) / 2,
          top + (kSheetCellSize - cell.picture->height) / 2, sheet);
  } else {
    PastePlaceholder(cell.placeholder, left, top, sheet);
  }
  const int caption = top + kSheetCellSize + 6;
  DrawCaption(cell.title, left, caption, kInk, sheet);
  DrawCaption(cell.subtitle, left, caption + kLineHeight, kFaintInk, sheet);
}

}  // namespace

void ContactSheet::AddRow(std::vector<SheetCell> cells) {
  for (SheetCell& cell : cells) {
    if (cell.picture) cell.picture = FitToSquare(*cell.picture, kSheetCellSize);
  }
  rows_.push_back(std::move(cells));
}

Image ContactSheet::Draw() const {
  constexpr int kColumnStep = kSheetCellSize + kSheetGap;
  constexpr int kRowStep = kSheetCellSize + kSheetCaptionHeight + kSheetGap;
  size_t columns = 0;
  for (const auto& row : rows_) columns = std::max(columns, row.size());
  Image sheet{.width = kSheetGap + static_cast<int>(columns) * kColumnStep,
              .height = kSheetGap + static_cast<int>(rows_.size()) * kRowStep,
              .rgb = {}};
  sheet.rgb.assign(static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height) * 3, 0xff);
  int top = kSheetGap;
  for (const auto& row : rows_) {
    int left = kSheetGap;
    for (const SheetCell& cell : row) {
      DrawCell(cell, left, top, sheet);
      left += kColumnStep;
    }
    top += kRowStep;
  }
  return sheet;
}

}  // namespace image_variations::client
