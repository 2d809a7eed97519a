// A picture made smaller by averaging.
#pragma once

#include "pipeline/image/image.h"

namespace image_variations {

// By the least whole factor that brings the longer side to `max_side` pixels or fewer; at the right
// and lower edge the average is of what there is. Requires max_side > 0.
Image Shrink(const Image&, int max_side);

}  // namespace image_variations
