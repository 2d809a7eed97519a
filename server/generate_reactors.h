// The two rpcs for variations on gRPC's callback API: a request's news as one reply, or as events.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "server/admission.h"
#include "server/caller_limits.h"
#include "server/generate_reply.h"
#include "server/open_answers.h"
#include "server/rpc_record.h"
#include "server/worker_pool.h"

namespace image_variations {

// What a call with a request_id has of the server besides the work, which others share: bytes for
// its own copy of the answer until gRPC is done, a repeated one its caller's place until the end.
struct AnswerShare {
  HeldBytes bytes;
  CallerTicket caller;
};

// Gathers a request's news into one reply. Deletes itself when gRPC is done with it.
class UnaryReactor final : public grpc::ServerUnaryReactor, public GenerateReply {
 public:
  UnaryReactor(RpcRecord record, OpenAnswers& answers,
               imagevariations::v1::GenerateVariationsResponse& response)
      : record_(std::move(record)), answers_(answers), response_(response) {}

  // Variations in memory at a time: the reply's, and again as gRPC sends it.
  static int MostVariations(int sample_count) { return 2 * sample_count; }
  // What to do when the caller is gone. This and Keep: before the rpc's method returns and before
  // OnEnd.
  void WhenCancelled(std::function<void()> cancel) { cancel_ = std::move(cancel); }
  void Keep(AnswerShare share) { share_ = std::move(share); }
  void GiveBackPlace() { share_.caller = {}; }
  const std::string& trace_id() const { return record_.trace_id(); }

  void OnAdmitted(imagevariations::v1::Admitted, int sample_count) override;
  void OnProgress(imagevariations::v1::Progress) override {}
  void OnPreview(PreviewPicture) override {}
  void OnVariation(imagevariations::v1::Variation) override;
  void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) override;

  void OnCancel() override {
    if (cancel_) cancel_();
  }
  void OnDone() override { delete this; }

 private:
  RpcRecord record_;
  OpenAnswers& answers_;
  OpenAnswers::Answer answer_;  // from admission on
  AnswerShare share_;
  imagevariations::v1::GenerateVariationsResponse& response_;
  std::function<void()> cancel_;
};

// Writes a request's news as events, one at a time. Of progress, and of each sample's previews,
// only the latest waits for a slow reader, and previews are encoded when their turn comes, by
// `codecs`; what else can wait is bounded by the request's samples. Deletes itself when gRPC is
// done.
class StreamReactor final
    : public grpc::ServerWriteReactor<imagevariations::v1::StreamVariationsResponse>,
      public GenerateReply {
 public:
  StreamReactor(RpcRecord record, OpenAnswers& answers, WorkerPool& codecs, bool wants_progress,
                bool wants_previews)
      : record_(std::move(record)),
        answers_(answers),
        codecs_(codecs),
        wants_progress_(wants_progress),
        wants_previews_(wants_previews) {}

  // As UnaryReactor's; one is on its way, the others wait.
  static int MostVariations(int sample_count) { return sample_count + 1; }
  void WhenCancelled(std::function<void()> cancel) { cancel_ = std::move(cancel); }
  void Keep(AnswerShare share) { share_ = std::move(share); }
  void GiveBackPlace() { share_.caller = {}; }
  const std::string& trace_id() const { return record_.trace_id(); }

  void OnAdmitted(imagevariations::v1::Admitted, int sample_count) override;
  void OnProgress(imagevariations::v1::Progress) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnPreview(PreviewPicture) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnVariation(imagevariations::v1::Variation) override;
  void OnEnd(absl::StatusOr<imagevariations::v1::Completed>) override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override {
    if (cancel_) cancel_();
  }
  void OnDone() override { delete this; }

 private:
  enum class Step { kNone, kWrite, kEncode, kEnd };

  // What is to be done now that something changed: chosen under the lock of the change, taken after
  // it. Whoever has a step other than kNone is the one who does it, and until then this stays;
  // whoever has kNone may find it gone.
  Step NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(Step) ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);
  void Write(imagevariations::v1::StreamVariationsResponse) ABSL_LOCKS_EXCLUDED(mutex_);
  void WritePreview() ABSL_LOCKS_EXCLUDED(mutex_);
  PreviewPicture TakePreview() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  RpcRecord record_;
  OpenAnswers& answers_;
  OpenAnswers::Answer answer_;  // from admission on
  AnswerShare share_;
  WorkerPool& codecs_;
  const bool wants_progress_, wants_previews_;
  std::function<void()> cancel_;
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
