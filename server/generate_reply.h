// Where the news of one request for variations go.
#pragma once

#include "absl/status/statusor.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "server/preview_pictures.h"

namespace image_variations {

// OnEnd comes once and last; what comes before may come from several threads at a time, each index
// of OnVariation once.
class GenerateReply {
 public:
  virtual ~GenerateReply() = default;
  virtual void OnAdmitted(imagevariations::v1::Admitted, int sample_count) = 0;
  virtual void OnProgress(imagevariations::v1::Progress) = 0;
  // Of a sample in the order of its steps; may be lost on the way. Engine thread: must not encode.
  virtual void OnPreview(PreviewPicture) = 0;
  virtual void OnVariation(imagevariations::v1::Variation) = 0;
  virtual void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) = 0;
};

}  // namespace image_variations
