// What a made picture says of itself: its generation parameters and that a model made it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// For a tEXt chunk (Latin-1) or an iTXt chunk (UTF-8).
struct PngText {
  std::string key;
  std::string text;
  bool is_utf8 = false;
};

// Keys "parameters" and "XML:com.adobe.xmp". Here and below `parameters` is UTF-8 without
// NUL, else INVALID_ARGUMENT.
absl::StatusOr<std::vector<PngText>> MakePngTexts(absl::string_view parameters);

// Contents of two APP1 segments: EXIF with the parameters as UserComment in UTF-16, as
// AUTOMATIC1111 writes it (OUT_OF_RANGE if they do not fit into a segment); XMP.
absl::StatusOr<std::string> MakeExifApp1(absl::string_view parameters);
std::string MakeXmpApp1();

}  // namespace image_variations
