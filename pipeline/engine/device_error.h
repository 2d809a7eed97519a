// What a CUDA error means for the process: as torch_guard.h meets them, and FaultInjector makes
// them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// After these the process must be replaced: CUDA 13 driver_types.h, "must be terminated and
// relaunched", and 214, an uncorrectable memory error.
inline constexpr std::array<int32_t, 14> kStickyCudaErrors = {214, 226, 700, 702, 710, 714, 715,
                                                              716, 717, 718, 719, 721, 810, 911};

// cudaErrorMemoryAllocation: too little memory, said outside LibTorch's allocator.
inline constexpr int32_t kCudaOutOfMemory = 2;

// DATA_LOSS when the device is gone, RESOURCE_EXHAUSTED when its memory is, else INTERNAL.
inline absl::Status MakeDeviceError(absl::string_view stage, int32_t cuda_error,
                                    absl::string_view what) {
  const bool is_gone = std::find(kStickyCudaErrors.begin(), kStickyCudaErrors.end(), cuda_error) !=
                       kStickyCudaErrors.end();
  const std::string text = absl::StrCat(stage, ": device error ", cuda_error, ": ", what);
  if (is_gone) return absl::DataLossError(text);
  return cuda_error == kCudaOutOfMemory ? absl::ResourceExhaustedError(text)
                                        : absl::InternalError(text);
}

}  // namespace image_variations
