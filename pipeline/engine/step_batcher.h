// Decides which samples share the next UNet call.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "pipeline/engine/step_cost.h"

namespace image_variations {

struct StepBatcherOptions {
  // Samples that hold latents at the same time. More: joins earlier, more device memory.
  int max_slots = 32;
  // UNet rows in one call. The measured step cost decides below it.
  int max_rows = 16;
  // Samples in line without a slot; one more is refused.
  int max_waiting_samples = 1024;
  // Finished latents that are decoded in one tick: bounds how long a step waits behind the VAE.
  int max_decodes_per_tick = 4;
  // Row counts that a call may have, ascending; a call is padded to the next one. Empty: any (CPU).
  std::vector<int> allowed_rows;
  // What a job without a deadline is planned by: arrival + this.
  absl::Duration interactive_target = absl::Minutes(2);
  absl::Duration batch_target = absl::Minutes(30);
};

// One picture of one job.
struct SampleRef {
  JobId job{};
  int index = 0;

  auto operator<=>(const SampleRef&) const = default;
};

struct Placement {
  SampleRef sample;
  SlotId slot = 0;
};

// A sample that ends without a picture, and why.
struct Stopped {
  SampleRef sample;
  absl::Status why;
};

// What the model runs before the loop looks at the world again, in this order.
struct Tick {
  std::vector<Stopped> stopped;  // expired or cancelled; already out of their slots
  std::vector<JobId> forget;  // jobs that ended; the embedding of one that never embedded is none
  std::vector<JobId> embed;   // jobs whose first sample takes a slot now
  std::vector<Placement> prepare;  // samples taking a slot now: draw their noise
  std::vector<Placement> denoise;  // one UNet call of these samples, all of one latent size ...
  std::vector<StepRow> step_rows;  // ... as the runner wants them, parallel to denoise
  int unet_rows = 0;               // rows that they take
  int padded_rows = 0;             // rows of the call
  std::vector<Placement> decode;   // finished latents: VAE, then safety
};

// Bookkeeping only: no tensors, threads or clock. Thread-compatible; owned by the engine thread.
//
// Each sample has an effective deadline: its job's, or arrival + the target of its priority class.
// A tick serves the samples with the earliest one first, whether they hold a slot or not, up to the
// row count that the step cost calls efficient: preemptive at every step where rows cost in
// proportion, wide where they are nearly free.
class StepBatcher {
 public:
  explicit StepBatcher(StepBatcherOptions);

  // RESOURCE_EXHAUSTED when the line is full; then nothing was kept.
  absl::Status Enqueue(const Job&, absl::Time now);
  // Takes effect at the next Plan(); unknown ids are ignored.
  void Cancel(JobId, absl::Status why);
  // Strictly alternating: Plan, run, Commit.
  Tick Plan(absl::Time now, const StepCostModel&);
  // Tells what became of the tick: every sample of `failed` ends here (its caller was told), all
  // others advanced.
  void Commit(const Tick&, const std::vector<SampleRef>& failed);

  bool idle() const { return samples_.empty() && forget_.empty(); }
  int running_samples() const { return options_.max_slots - static_cast<int>(free_slots_.size()); }
  int waiting_samples() const { return static_cast<int>(samples_.size()) - running_samples(); }
  // UNet rows that all open samples still need, at their latent areas: what a newcomer has in front
  // of it.
  absl::Duration PredictBacklog(const StepCostModel&) const;
  // The most rows a call may take from now on (out of device memory); 0 or less counts as 1.
  void LimitRows(int max_rows);
  int max_rows() const { return options_.max_rows; }

 private:
  struct OpenJob {
    std::shared_ptr<const SamplerPlan> plan;
    float guidance_scale = 1;
    int64_t latent_area = 0;
    std::pair<int, int> latent_size;
    absl::Time deadline;
    absl::Time effective_deadline;
    uint64_t arrival = 0;
    int open_samples = 0;
    bool embedded = false;
    std::optional<absl::Status> cancelled;
  };
  struct Sample {
    std::optional<SlotId> slot;
    size_t next_step = 0;
  };
  using Urgency = std::tuple<absl::Time, uint64_t, int>;  // effective deadline, arrival, index

  void StopExpiredAndCancelled(absl::Time now, Tick*);
  void ChooseDecodes(Tick*);
  void ChooseRows(const StepCostModel&, Tick*);
  void End(const SampleRef&);

  StepBatcherOptions options_;
  std::map<JobId, OpenJob> jobs_;
  std::map<SampleRef, Sample> samples_;
  std::map<Urgency, SampleRef> by_urgency_;
  std::vector<SlotId> free_slots_;
  std::vector<JobId> forget_;
  uint64_t arrivals_ = 0;
};

}  // namespace image_variations
