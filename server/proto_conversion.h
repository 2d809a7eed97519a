// Values of the engine as messages of the API.
#pragma once

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"

namespace image_variations {

inline google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return proto;
}

}  // namespace image_variations
