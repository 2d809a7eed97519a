// The events of one StreamVariations call, put together again; internal to the client library.
#pragma once

#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/messages.h"
#include "imagevariations/v1/image_variations.pb.h"

namespace image_variations::client {

// Thread-compatible value.
class StreamedReply {
 public:
  // Reports the event, and keeps what belongs to the result.
  void Take(imagevariations::v1::StreamVariationsResponse&& event, const VaryEvents&);
  bool has_variations() const { return !result_.variations.empty(); }

  // Once the stream has ended well. INTERNAL: something of the reply is missing.
  absl::StatusOr<VariationResult> Finish(int sample_count) &&;

 private:
  VariationResult result_;
  bool completed_ = false;
};

}  // namespace image_variations::client
