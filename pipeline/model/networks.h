// The four networks of one checkpoint, loaded and checked.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/clip_vision.h"
#include "pipeline/model/safety_head.h"
#include "pipeline/model/unet.h"
#include "pipeline/model/vae_decoder.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

struct Networks {
  Placement placement;
  PreprocessorConfig preprocessor;
  Unet unet;
  VaeDecoder vae;
  ClipVision image_encoder;
  std::optional<SafetyHead> safety_checker;
  bool is_one_tower = false;  // safety_checker's is image_encoder's, once in memory
};

// INVALID_ARGUMENT names every bad tensor of every component, or configs that do not fit together.
absl::StatusOr<Networks> LoadNetworks(const ModelDir&, Placement);

}  // namespace image_variations
