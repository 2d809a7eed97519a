// Pillow's bicubic resize of 8-bit pictures, to the last bit.
#pragma once

#include "pipeline/image/image.h"

namespace image_variations {

// Antialiased (the filter widens when shrinking), a = -0.5, in fixed point with an 8-bit picture
// between the horizontal and the vertical pass: src/libImaging/Resample.c of Pillow. The safety
// checker's and CLIP's own processors resize so.
Image PilResize(const Image&, int width, int height);

}  // namespace image_variations
