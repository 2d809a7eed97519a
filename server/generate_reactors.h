// The two rpcs for variations on gRPC's callback API: a request's news as one reply, or as events.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "server/variations_rpc.h"
#include "server/worker_pool.h"

namespace image_variations {

// Gathers a request's news into one reply. Deletes itself when gRPC is done with it.
class UnaryReactor final : public grpc::ServerUnaryReactor, public VariationsRpc {
 public:
  UnaryReactor(RpcRecord record, OpenAnswers& answers,
               imagevariations::v1::GenerateVariationsResponse& response)
      : VariationsRpc(std::move(record), answers), response_(response) {}

  // The reply's, and again as gRPC sends it.
  int MostVariations(int sample_count) const override { return 2 * sample_count; }
  void OnAdmitted(imagevariations::v1::Admitted, int sample_count) override;
  void OnProgress(imagevariations::v1::Progress) override {}
  void OnPreview(PreviewPicture) override {}
  void OnVariation(imagevariations::v1::Variation) override;
  void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) override;

  void OnCancel() override { CancelWork(); }
  void OnDone() override { delete this; }

 private:
  imagevariations::v1::GenerateVariationsResponse& response_;
};

// Writes a request's news as events, one at a time. Of progress, and of each sample's previews,
// only the latest waits for a slow reader, and previews are encoded when their turn comes, by
// `codecs`; what else can wait is bounded by the request's samples. Deletes itself when gRPC is
// done.
class StreamReactor final
    : public grpc::ServerWriteReactor<imagevariations::v1::StreamVariationsResponse>,
      public VariationsRpc {
 public:
  StreamReactor(RpcRecord record, OpenAnswers& answers, WorkerPool& codecs, bool wants_progress,
                bool wants_previews)
      : VariationsRpc(std::move(record), answers),
        codecs_(codecs),
        wants_progress_(wants_progress),
        wants_previews_(wants_previews) {}

  // One is on its way, the others wait.
  int MostVariations(int sample_count) const override { return sample_count + 1; }
  void OnAdmitted(imagevariations::v1::Admitted, int sample_count) override;
  void OnProgress(imagevariations::v1::Progress) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnPreview(PreviewPicture) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnVariation(imagevariations::v1::Variation) override;
  void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override { CancelWork(); }
  void OnDone() override { delete this; }

 private:
  enum class Step { kNone, kWrite, kEncode, kEnd };

  // What is to be done now that something changed: chosen under the lock of the change, taken after
  // it. Whoever has a step other than kNone is the one who does it, and until then this stays;
  // whoever has kNone may find it gone.
  Step NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(Step) ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishAsKnown() ABSL_LOCKS_EXCLUDED(mutex_);
  void Write(imagevariations::v1::StreamVariationsResponse) ABSL_LOCKS_EXCLUDED(mutex_);
  void WritePreview() ABSL_LOCKS_EXCLUDED(mutex_);
  PreviewPicture TakePreview() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  WorkerPool& codecs_;
  const bool wants_progress_, wants_previews_;
  absl::Mutex mutex_;
  std::deque<imagevariations::v1::StreamVariationsResponse> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<imagevariations::v1::Progress> progress_ ABSL_GUARDED_BY(mutex_);
  std::map<int, PreviewPicture> previews_ ABSL_GUARDED_BY(mutex_);  // by sample
  int last_preview_ ABSL_GUARDED_BY(mutex_) = -1;            // the sample whose turn was last
  bool is_encoder_called_ ABSL_GUARDED_BY(mutex_) = false;   // a codec thread will WritePreview
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // known; constant from then on
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;          // or ended
  bool is_broken_ ABSL_GUARDED_BY(mutex_) = false;
  imagevariations::v1::StreamVariationsResponse written_;  // gRPC's while is_writing_
};

}  // namespace image_variations
