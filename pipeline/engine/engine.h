// The loop: take mail, plan, run, commit, answer.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/engine_observer.h"
#include "pipeline/engine/heartbeat.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "pipeline/engine/safety_policy.h"
#include "pipeline/engine/step_batcher.h"

namespace image_variations {

struct JobRecord;

struct EngineOptions {
  StepBatcherOptions batcher;
  SafetyMode safety = SafetyMode::kRequired;
  absl::Duration warm_up_budget = absl::Seconds(5);
};

// A snapshot for GetServerStatus and admission.
struct EngineStatus {
  int rows_running = 0;     // rows of the latest UNet call
  int samples_running = 0;  // holding a slot
  int samples_waiting = 0;
  absl::Duration predicted_backlog;  // all open work at the measured step cost
  CostModel cost;
  absl::Status device;  // non-OK: lost
};

// Passive: RunTick() does one turn and returns, so the server's thread and the simulator drive the
// same code. `clock` and `observer` must outlive the engine. Which thread may call what is said at
// each method.
class Engine {
 public:
  Engine(EngineOptions, std::unique_ptr<ModelRunner>, const Clock& clock, EngineObserver& observer);
  ~Engine();  // answers every open sample with CANCELLED

  // Any thread, never blocks. Non-OK (UNAVAILABLE: the device is lost): the listener is not called.
  // A line that turns out to be full when the engine takes its mail is told to the listener, as
  // RESOURCE_EXHAUSTED for every sample.
  absl::Status Submit(Job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Any thread. The job's open samples end with `why` before the next step. Unknown ids are
  // ignored.
  void Cancel(JobId, absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  // Any thread.
  EngineStatus status() const ABSL_LOCKS_EXCLUDED(mutex_);
  const ModelInfo& model() const { return runner_->info(); }  // any thread
  const Heartbeat& heartbeat() const { return heartbeat_; }   // any thread

  // Engine thread only. Measures the step cost with rows from 1 to max_rows at the model's default
  // size, so that the first request is planned with numbers; non-OK: the model does not run on this
  // device.
  absl::Status WarmUp();
  // Engine thread only; false = nothing to do.
  bool RunTick() ABSL_LOCKS_EXCLUDED(mutex_);
  // Engine thread only; the one place that blocks: until there is mail, or `until`, or Wake().
  void WaitForMail(absl::Time until) ABSL_LOCKS_EXCLUDED(mutex_);
  // Any thread: ends a WaitForMail now.
  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Mail {
    Job job;
    absl::Time submitted;
  };

  void TakeMail();
  void Answer(const std::vector<Stopped>&);
  void Forget(const std::vector<JobId>&);
  void EmbedImages(const Tick&);
  void PrepareLatents(const Tick&);
  void Denoise(const Tick&);
  void DecodeJudgeAndAnswer(const Tick&);
  void PublishStatus();

  absl::Status DenoiseSamples(absl::Span<const Placement>, absl::Span<const StepRow>);
  absl::Status DecodeSamples(absl::Span<const Placement>);
  void ReportProgress(absl::Span<const Placement>);
  void ShowPreviews(absl::Span<const Placement>, absl::Span<const StepRow>,
                    const std::vector<bool>& finite);
  void RunSplitting(absl::Span<const Placement>,
                    absl::FunctionRef<absl::Status(absl::Span<const Placement>)> call);
  std::vector<Placement> StillOpen(std::vector<Placement>) const;
  void Fail(const SampleRef&, const absl::Status&);
  void FailJob(JobId, const absl::Status&, const Tick&);
  void LoseDevice(const absl::Status&);
  void EndSample(const SampleRef&, absl::StatusOr<SampleResult>);

  const EngineOptions options_;
  const SafetyPolicy safety_;
  const std::unique_ptr<ModelRunner>
      runner_;  // its info() is constant; all else engine thread only, ...
  const Clock& clock_;
  EngineObserver& observer_;
  StepBatcher batcher_;  // ... like these
  CostModel cost_;
  std::map<JobId, std::unique_ptr<JobRecord>> jobs_;
  absl::Status device_;
  std::vector<SampleRef> failed_;  // of the running tick
  TickReport report_;              // of the running tick
  absl::Duration predicted_;       // of its calls
  absl::Time planned_at_;
  absl::Time memory_read_at_ = absl::InfinitePast();
  Heartbeat heartbeat_;

  mutable absl::Mutex mutex_;  // guards the mailbox and the snapshot, nothing else
  std::vector<Mail> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<JobId, absl::Status>> cancelled_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  EngineStatus status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace image_variations
