// Turns an allocation that failed into an absl::Status, where untrusted sizes are at work.
#pragma once

#include <new>

#include "absl/status/status.h"

namespace image_variations {

// RESOURCE_EXHAUSTED. Made in advance: a copy allocates nothing.
inline const absl::Status& OutOfMemoryError() {
  static const auto* const error =
      new absl::Status(absl::StatusCode::kResourceExhausted, "out of memory");
  return *error;
}

// Runs `body`, which returns a Status or a StatusOr; what it held is freed when it runs out of
// memory. What it throws else goes on.
template <typename Body>
auto GuardMemory(Body body) -> decltype(body()) {
  const absl::Status& error = OutOfMemoryError();
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return error;
  }
}

}  // namespace image_variations
