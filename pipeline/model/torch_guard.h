// Where LibTorch's exceptions become statuses: the only try/catch in the program.
#pragma once

#include <exception>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "c10/core/InferenceMode.h"
#include "c10/util/Exception.h"
#include "pipeline/engine/device_error.h"

namespace image_variations {

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
    return MakeDeviceError(stage, error.get_error_code(), error.what_without_backtrace());
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
