#pragma once

#include "pipeline/image/image.h"

namespace image_variations::client {

// The picture at the largest size of its own proportions that fits a side x side square. Every
// result pixel is the mean of what it covers: smaller is smooth, larger keeps the pixels sharp
// (exactly the nearest pixel at whole factors).
Image FitToSquare(const Image&, int side);

}  // namespace image_variations::client
