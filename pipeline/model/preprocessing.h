// The two ways in which a picture becomes the input of a CLIP tower.
#pragma once

#include "ATen/core/Tensor.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/image/image.h"

namespace image_variations {

// The model card's recipe: both sides resized to `size`, bicubic (a = -0.75) without antialias, no
// crop, no clamp; normalised. float32 (1, 3, size, size) on the CPU.
at::Tensor PreprocessAsModelCard(const Image&, int size, const PreprocessorConfig&);

// CLIPImageProcessor: shortest edge resized as Pillow does, centre crop, normalised. float32
// (1, 3, crop_height, crop_width) on the CPU.
at::Tensor PreprocessAsClip(const Image&, const PreprocessorConfig&);

}  // namespace image_variations
