// Decides which samples share the next UNet call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/step_cost.h"
#include "pipeline/engine/tick.h"

namespace image_variations {

struct StepBatcherOptions {
  // Samples that hold latents at the same time: few kilobytes each. An urgent sample waits for one
  // when all are taken.
  int max_slots = 256;
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

// Bookkeeping only: no tensors, threads or clock. Thread-compatible; owned by the engine thread.
//
// Each sample has an effective deadline: its job's, or arrival + the target of its priority class.
// A tick serves the samples with the earliest one first, whether they hold a slot or not, up to the
// row count that the step cost calls efficient: preemptive at every step where rows cost in
// proportion, wide where they are nearly free.
class StepBatcher {
 public:
  explicit StepBatcher(StepBatcherOptions);

  // RESOURCE_EXHAUSTED when the line is full; then nothing was kept. Ids must be new.
  absl::Status Enqueue(const Job&, absl::Time now);
  // Takes effect at the next Plan(); unknown ids are ignored.
  void Cancel(JobId, absl::Status why);
  void CancelAll(const absl::Status& why);
  // Strictly alternating: Plan, run, Commit.
  Tick Plan(absl::Time now, const StepCostModel&);
  // What became of the tick: samples of `failed` end here, all others of it advanced.
  void Commit(const Tick&, const std::vector<SampleRef>& failed);
  // The rows of a call that takes `rows`: the next of allowed_rows.
  int PaddedRows(int rows) const;
  // The most rows that a call may take from now on (the device ran out of memory above it).
  void LimitRows(int max_rows) { options_.max_rows = std::max(1, max_rows); }

  bool idle() const { return samples_.empty() && forget_.empty(); }
  int running_samples() const { return options_.max_slots - static_cast<int>(free_slots_.size()); }
  int waiting_samples() const { return static_cast<int>(samples_.size()) - running_samples(); }
  // Time that the UNet calls of all open jobs take which are not less urgent than this one, it
  // included; of all jobs when none is given.
  absl::Duration PredictBacklog(const StepCostModel&, std::optional<JobId> up_to = {}) const;

 private:
  using JobUrgency = std::pair<absl::Time, uint64_t>;  // effective deadline, arrival
  using Urgency = std::pair<JobUrgency, SampleRef>;

  struct OpenJob {
    std::shared_ptr<const SamplerPlan> plan;
    float guidance_scale = 1;
    int latent_width = 0, latent_height = 0;
    absl::Time deadline;
    JobUrgency urgency;
    int open_samples = 0;
    int64_t rows_left = 0;
    bool embedded = false;

    int64_t latent_area() const { return int64_t{latent_width} * latent_height; }
    int rows() const { return RowsPerStep(guidance_scale); }
  };
  struct Sample {
    std::optional<SlotId> slot;
    size_t next_step = 0;
  };

  void Stop(JobId, const absl::Status& why, Tick*);
  void StopExpiredAndCancelled(absl::Time now, Tick*);
  void ChooseRows(const StepCostModel&, Tick*);
  void ChooseDecodes(Tick*);
  void Place(const SampleRef&, OpenJob&, Sample&, Tick*);
  void End(const SampleRef&);

  StepBatcherOptions options_;
  std::map<JobId, OpenJob> jobs_;
  std::map<JobUrgency, JobId> jobs_by_urgency_;
  std::set<std::pair<absl::Time, JobId>> deadlines_;
  std::map<SampleRef, Sample> samples_;
  std::set<Urgency> unfinished_;  // samples with steps to go
  std::set<Urgency> finished_;    // samples whose latents wait for the VAE
  std::vector<std::pair<JobId, absl::Status>> cancelled_;
  std::vector<SlotId> free_slots_;
  std::vector<JobId> forget_;
  uint64_t arrivals_ = 0;
};

}  // namespace image_variations
