// Pillow's bicubic resize of 8-bit pictures, to the last bit.
#pragma once

#include "pipeline/image/image.h"

namespace image_variations {

// A part of a picture, in pixels; inside of it, and not empty.
struct PixelWindow {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

// The window of `image` at the size width x height. Antialiased (the filter widens when shrinking),
// a = -0.5, in fixed point with an 8-bit picture between the horizontal and the vertical pass:
// src/libImaging/Resample.c of Pillow. The safety checker's and CLIP's own processors resize so.
// What lies outside the window is not computed: the middle of a line of 16,384 x 1 pixels is cheap,
// although all of it at 224 rows would take 2.5 GB.
Image PilResize(const Image& image, int width, int height, const PixelWindow& window);

}  // namespace image_variations
