// What a server says about an error beyond code and message, as plain values.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace image_variations::client {

struct FieldViolation {
  std::string field = {};  // "generation.guidance_scale"
  std::string description = {};
};

struct ErrorDetails {
  std::string reason = {};  // "QUEUE_FULL"; empty: the error did not come from the service itself
  std::map<std::string, std::string> metadata = {};
  std::vector<FieldViolation> field_violations = {};
  std::optional<absl::Duration> retry_after =
      {};  // absent: the server does not advise another attempt
};

// Details of a status that Client returned; empty when it carries none or what it carries is
// malformed.
ErrorDetails DecodeErrorDetails(const absl::Status&);

}  // namespace image_variations::client
