// The text about its making that a generated picture carries.
#pragma once

#include <cstdint>
#include <string>

#include "pipeline/engine/model_runner.h"
#include "server/request_validator.h"

namespace image_variations {

// AUTOMATIC1111's form, which galleries and other tools read: "Steps: 50, Sampler: PLMS, ...". The
// model's hash is the head of its UNet's sha256.
std::string GenerationParametersText(const ValidRequest&, uint64_t sample_seed, const ModelInfo&);

}  // namespace image_variations
