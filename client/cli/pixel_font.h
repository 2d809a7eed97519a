// Writing on pictures: a fixed-width dot matrix font of printable ASCII.
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "pipeline/image/image.h"

namespace image_variations::client {

using Colour = std::array<uint8_t, 3>;  // R, G, B

inline constexpr int kGlyphAdvance = 6;  // pixels at scale 1: 5 and a gap
inline constexpr int kGlyphHeight = 8;   // descenders included

// Every font pixel becomes scale x scale pixels. What falls outside the picture is left out; bytes
// that are no printable ASCII become '?'.
void DrawText(Image&, int x, int y, absl::string_view text, int scale, Colour);

}  // namespace image_variations::client
