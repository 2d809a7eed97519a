// EXIF orientation: how a stored picture is turned to stand upright.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "pipeline/image/image.h"
#include "pipeline/image/stored_header.h"

namespace image_variations {

// The Orientation tag (1 to 8) in `tiff`, EXIF's TIFF structure; 1, upright, when it is missing,
// out of range or unreadable.
int ReadExifOrientation(absl::string_view tiff);

// 5 to 8 are turned by a quarter: the upright picture's width is the stored height.
inline bool SwapsSides(int orientation) { return orientation >= 5; }

// Builds the upright picture from stored rows, each written straight to where it belongs.
class UprightImage {
 public:
  explicit UprightImage(const StoredHeader&);

  // Row `y` of the stored picture: 3 x stored width bytes.
  void PutRow(int y, const uint8_t* rgb);

  // The picture, when all rows were put.
  Image Take() && { return std::move(image_); }

 private:
  Image image_;
  int64_t stored_width_;
  int64_t origin_;  // where stored pixel (0, 0) goes, and how far its neighbours are: in pixels
  int64_t x_step_;
  int64_t y_step_;
};

}  // namespace image_variations
