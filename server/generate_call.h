// One request for variations on its way through the server: admit, decode, submit, hear the
// samples, encode, answer. Shared by the unary and the streaming rpc.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/engine.h"
#include "pipeline/engine/job.h"
#include "server/admission.h"
#include "server/caller_limits.h"
#include "server/decode_sandbox.h"
#include "server/engine_pool.h"
#include "server/generate_reply.h"
#include "server/metrics.h"
#include "server/request_validator.h"
#include "server/worker_pool.h"

namespace image_variations {

// What calls work with; outlives them.
struct CallContext {
  const Clock& clock;
  AdmissionGate& gate;
  WorkerPool& codecs;
  Metrics& metrics;
  const EnginePool& engines;
  const RequestValidator& validator;
  CallerLimits& caller_limits;
  const DecodeSandbox* sandbox = nullptr;  // nullptr: pictures are decoded in this process
};

// Where a call comes from.
struct CallOrigin {
  std::string caller;    // with whom the request shares its place in line
  std::string trace_id;  // for the log
};

// Of a call that gRPC cancels: it does so for its caller and for its deadline alike.
absl::Status WhyCancelled(absl::Time now, absl::Time deadline);

// Owned by the rpc's reactor, and by the engine and the codec threads as long as they work for it.
// Nothing that the rpc owns is touched after OnEnd.
class GenerateCall final : public JobListener, public std::enable_shared_from_this<GenerateCall> {
 public:
  // `image` and `reply` live until reply.OnEnd. `id` is new to all engines.
  GenerateCall(const CallContext&, JobId id, const std::string& image, absl::Time deadline,
               GenerateReply& reply, CallOrigin = {});

  // gRPC thread; never blocks. Takes the validator's word.
  void Start(absl::StatusOr<ValidRequest>);
  // The caller is gone. Any thread, any time.
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_);

  // Engine thread.
  void OnProgress(const JobProgress&) override;
  void OnPreview(int index, int step, CheckedImage) override;
  void OnSample(int index, absl::StatusOr<SampleResult>) override;
  void OnDone(const JobMetrics&) override;

 private:
  absl::Status Admit(absl::StatusOr<ValidRequest>);
  absl::Status CheckPlan() const;
  void DecodeAndSubmit();
  absl::StatusOr<Job> MakeJob();
  void Encode(int index, const SampleResult&);
  void AnswerFailed(int index, const absl::Status& why);
  void EndPart();
  void Finish(const absl::Status&);

  Engine& engine() const { return *engine_.load(); }  // once admitted
  bool is_cancelled() const ABSL_LOCKS_EXCLUDED(mutex_);
  imagevariations::v1::EffectiveParameters parameters() const;
  imagevariations::v1::Completed completed() const ABSL_LOCKS_EXCLUDED(mutex_);

  const CallContext context_;
  const JobId id_;
  const std::string& image_;
  const absl::Time deadline_;
  GenerateReply& reply_;
  const CallOrigin origin_;
  const absl::Time begin_;
  ValidRequest request_;        // constant once admitted
  CallerTicket caller_ticket_;  // these two from admission on
  AdmissionTicket ticket_;
  std::atomic<Engine*> engine_ = nullptr;  // where its place is; none before admission
  absl::Duration decode_time_;
  JobMetrics job_metrics_;           // written before the last EndPart
  bool has_every_picture_ = true;    // so far; engine thread only
  std::atomic<int> steps_done_ = 0;  // over all samples
  std::atomic<int> open_parts_ = 0;  // samples to answer, and OnDone

  mutable absl::Mutex mutex_;
  bool is_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration encode_time_ ABSL_GUARDED_BY(mutex_);
  int failed_samples_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status first_failure_ ABSL_GUARDED_BY(mutex_);  // of a sample alone
  absl::Status stopped_ ABSL_GUARDED_BY(mutex_);        // why the whole call ended early
};

}  // namespace image_variations
