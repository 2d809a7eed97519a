// The seam between the load and the server under it, time included.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/messages.h"

namespace image_variations::client {

struct Admission {
  absl::Time at = {};
  Admitted admitted = {};
};

struct Answer {
  int64_t id = 0;  // as sent
  absl::Time at = {};
  absl::StatusOr<VariationResult> result;
  std::optional<Admission> admission = {};
};

// Thread-compatible: one thread drives it.
class LoadTarget {
 public:
  virtual ~LoadTarget() = default;

  virtual absl::Time Now() = 0;
  // Does not wait for the server. Each id is new, and is answered once.
  virtual void Send(int64_t id, VariationRequest) = 0;
  // Answers that have come since the last call; waits for one, but not beyond `until`.
  virtual std::vector<Answer> WaitForAnswers(absl::Time until) = 0;
  // What runs ends with CANCELLED, soon. An id that is not running is ignored.
  virtual void Cancel(int64_t id) = 0;
};

}  // namespace image_variations::client
