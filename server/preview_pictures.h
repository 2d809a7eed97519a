// Previews on their way from the engine to whoever reads them.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/engine/safety_policy.h"

namespace image_variations {

// Not encoded: many are never sent. Requires !picture->blocked().
struct PreviewPicture {
  int index = 0;  // of the sample
  int step = 0;
  std::shared_ptr<const CheckedImage> picture;
};

// As JPEG, without metadata: it is no result.
absl::StatusOr<imagevariations::v1::Preview> EncodePreview(const PreviewPicture&);

}  // namespace image_variations
