// How full the memory is of the device that computes.
#pragma once

#include "ATen/core/Tensor.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// CPU: this process's resident memory, and what the machine or the control group allows. GPU: what
// the driver says, of all processes. Zeros when it cannot be told.
DeviceMemory ReadDeviceMemory(const at::Device&);

}  // namespace image_variations
