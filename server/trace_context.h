// W3C Trace Context: which of a caller's traces an rpc belongs to.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

inline constexpr char kTraceparent[] = "traceparent";  // metadata, both ways

struct TraceContext {
  std::string trace_id;  // 32 lower-case hexadecimal digits, the caller's or drawn
  std::string span_id;   // 16: this rpc
  std::string flags;     // 2: the caller's

  // The metadata of the reply.
  std::string ToTraceparent() const;
};

// A new span in the trace that `traceparent` names; in a new trace when it names none, as the
// specification has it: wrong length, digits, version ff or all zeros. Of later versions the part
// that all have counts.
TraceContext ContinueTrace(absl::string_view traceparent);

}  // namespace image_variations
