// Previews on their way from the engine to whoever reads them.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
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

// The latest of each sample of one request; who brings a newer one takes the older away.
// Thread-safe.
class LatestPreviews {
 public:
  // True: there was none, so somebody is to be sent for them.
  bool Put(PreviewPicture preview) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const bool was_empty = previews_.empty();
    previews_.insert_or_assign(preview.index, std::move(preview));
    return was_empty;
  }

  // By sample.
  std::map<int, PreviewPicture> TakeAll() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return std::exchange(previews_, {});
  }

 private:
  absl::Mutex mutex_;
  std::map<int, PreviewPicture> previews_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace image_variations
