// One piece of work that several calls wait for: the first call with its request_id, and those
// that repeat it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "server/generate_reply.h"

namespace image_variations {

// Remembers a request's news and tells them to every listener, early or late. Thread-safe. Keeps
// itself until OnEnd, so that the work may refer to it.
class SharedReply final : public GenerateReply, public std::enable_shared_from_this<SharedReply> {
 public:
  // `image` is the request's picture, `deadline` the work's. `when_ended` hears whether the work
  // ended well, once, after the listeners.
  SharedReply(std::string image, absl::Time deadline, int max_listeners,
              std::function<void(SharedReply&, bool ok)> when_ended);

  const std::string& image() const { return image_; }
  // Before the work starts: how to stop it.
  void BeginWith(std::function<void()> cancel_work) ABSL_LOCKS_EXCLUDED(mutex_);

  // Tells `listener` all that was and will be said. When the work's deadline passes before the
  // listener's own, the listener is told to come again. False: the work failed or was given up, so
  // that it has to be done anew; nothing was told. RESOURCE_EXHAUSTED: too many listeners.
  absl::StatusOr<bool> Listen(GenerateReply& listener, absl::Time deadline)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The caller of `listener` is gone. The last one's leaving stops the work; another's ends its own
  // call with `why`. Unknown listeners are ignored.
  void Leave(GenerateReply& listener, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);

  // Memory of the pictures that it remembers.
  int64_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

  void OnAdmitted(imagevariations::v1::Admitted, int sample_count) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnProgress(imagevariations::v1::Progress) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnPreview(PreviewPicture) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnVariation(imagevariations::v1::Variation) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Listener {
    GenerateReply* reply;
    absl::Time deadline;
  };

  std::string image_;
  const absl::Time deadline_;
  const int max_listeners_;
  const std::function<void(SharedReply&, bool)> when_ended_;

  // Held while listeners are told, who only hand it to gRPC: all hear the same order, and none
  // hears anything after it has left.
  mutable absl::Mutex mutex_;
  std::shared_ptr<SharedReply> self_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> cancel_work_ ABSL_GUARDED_BY(mutex_);
  std::vector<Listener> listeners_ ABSL_GUARDED_BY(mutex_);
  bool is_given_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<imagevariations::v1::Admitted> admitted_ ABSL_GUARDED_BY(mutex_);
  int sample_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<imagevariations::v1::Variation> variations_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::StatusOr<imagevariations::v1::Completed>> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace image_variations
