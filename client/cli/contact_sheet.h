// The contact sheet: each source beside its variations, a row for each source, on white.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pipeline/image/image.h"

namespace image_variations::client {

inline constexpr int kSheetCellSize =
    192;  // pixels; 64-pixel pictures are shown three times as large
inline constexpr int kSheetGap = 16;
inline constexpr int kSheetCaptionHeight = 44;  // two lines

struct SheetCell {
  std::optional<Image> picture;
  std::string placeholder;  // where there is no picture: why, in lines
  std::string title;
  std::string subtitle;
};

// Thread-compatible value. Keeps thumbnails, not the pictures it is given.
class ContactSheet {
 public:
  // The first cell is the source.
  void AddRow(std::vector<SheetCell> cells);
  bool empty() const { return rows_.empty(); }
  Image Draw() const;

 private:
  std::vector<std::vector<SheetCell>> rows_;
};

}  // namespace image_variations::client
