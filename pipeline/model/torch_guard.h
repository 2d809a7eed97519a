// Where LibTorch's exceptions become statuses: the only try/catch in the program.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "c10/core/InferenceMode.h"
#include "c10/util/Exception.h"

namespace image_variations {

// CUDA errors after which the process must be replaced: CUDA 13 driver_types.h, "must be terminated
// and relaunched", and 214, an uncorrectable memory error.
inline bool IsDeviceGone(int32_t cuda_error) {
  constexpr std::array<int32_t, 14> kSticky = {214, 226, 700, 702, 710, 714, 715,
                                               716, 717, 718, 719, 721, 810, 911};
  return std::find(kSticky.begin(), kSticky.end(), cuda_error) != kSticky.end();
}

// Runs `body`, which returns a Status or a StatusOr, in inference mode. What it throws becomes
// RESOURCE_EXHAUSTED (out of memory), DATA_LOSS (the device is gone) or INTERNAL, with `stage` in
// the message. Tensors of the body are dead when this returns; the exception is not kept, as it may
// hold memory.
template <typename Body>
auto GuardTorch(absl::string_view stage, Body body) -> decltype(body()) {
  try {
    const c10::InferenceMode inference_mode;
    return body();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat(stage, ": out of device memory: ", error.what_without_backtrace()));
  } catch (const c10::AcceleratorError& error) {
    const std::string what = absl::StrCat(stage, ": device error ", error.get_error_code(), ": ",
                                          error.what_without_backtrace());
    if (IsDeviceGone(error.get_error_code())) return absl::DataLossError(what);
    // From a call outside LibTorch's allocator.
    constexpr int32_t kMemoryAllocation = 2;
    return error.get_error_code() == kMemoryAllocation ? absl::ResourceExhaustedError(what)
                                                       : absl::InternalError(what);
  } catch (const c10::Error& error) {
    const absl::string_view what = error.what_without_backtrace();
    const bool out_of_memory = absl::StrContains(what, "can't allocate memory");
    return out_of_memory ? absl::ResourceExhaustedError(absl::StrCat(stage, ": ", what))
                         : absl::InternalError(absl::StrCat(stage, ": ", what));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(stage, ": out of memory"));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(stage, ": ", error.what()));
  }
}

}  // namespace image_variations
