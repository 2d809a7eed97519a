// What admission must know of a request for variations.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "server/request_validator.h"
#include "server/retry_promises.h"

namespace image_variations {

struct AdmissionRequest {
  int64_t bytes = 0;  // that it holds
  RequestShape shape;
  Priority priority = Priority::kInteractive;
  absl::Time deadline = absl::InfiniteFuture();
  std::string caller;
  std::string request_id;  // as the caller sent it; without, nothing is promised when it is refused
  bool only_asks = false;  // would it be let in? Nothing is kept of it.
};

int64_t BytesOf(const ValidRequest&, int64_t encoded_bytes);
// Of so many of its variations, ready to be sent.
int64_t AnswerBytesOf(const ValidRequest&, int variations);
RequestShape ShapeOf(const ValidRequest&, int latent_factor);

}  // namespace image_variations
