// Decides which samples share the next UNet call, and which pictures are decoded after it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/forecast.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/line_order.h"
#include "pipeline/engine/memory_ceilings.h"
#include "pipeline/engine/tick.h"

namespace image_variations {

struct StepBatcherOptions {
  // Samples that hold latents at the same time: few kilobytes each. An urgent sample waits for one
  // when all are taken.
  int max_slots = 256;
  // UNet rows in one call. Measured costs and deadlines decide below it.
  int max_rows = 16;
  // Samples in line without a slot; one more is refused.
  int max_waiting_samples = 1024;
  // Finished latents that are decoded in one tick. The measured cost decides below it.
  int max_decodes_per_tick = 4;
  // What a job without a deadline is planned by: its start in line + this.
  absl::Duration interactive_target = absl::Minutes(2);
  absl::Duration batch_target = absl::Minutes(30);
};

// Bookkeeping only: no tensors, threads or clock. Thread-compatible; owned by the engine thread.
//
// Each sample has an effective deadline (LineOrder). A tick serves the samples with the earliest
// one first, whether they hold a slot or not, as many as CallChoice says. Those that cannot
// meet their deadline any more come after those that can.
class StepBatcher {
 public:
  explicit StepBatcher(StepBatcherOptions);

  // RESOURCE_EXHAUSTED when the line is full; then nothing was kept. Ids must be new.
  absl::Status Enqueue(const Job&, absl::Time now, const CostModel&);
  // Takes effect at the next Plan(); unknown ids are ignored.
  void Cancel(JobId, absl::Status why);
  void CancelAll(const absl::Status& why);
  // Strictly alternating: Plan, run, Commit.
  Tick Plan(absl::Time now, const CostModel&);
  // What became of the tick: samples of `failed` end here, all others of it advanced.
  void Commit(const Tick&, const std::vector<SampleRef>& failed);
  // A call of so many rows, padding included, did not fit into the device's memory.
  void OnUnetOutOfMemory(LatentSize size, int rows);
  // Nor did a decode of so many pictures, of at most this size.
  void OnVaeOutOfMemory(LatentSize size, int pictures);

  bool idle() const { return samples_.empty() && forget_.empty(); }
  int running_samples() const { return options_.max_slots - static_cast<int>(free_slots_.size()); }
  int waiting_samples() const { return static_cast<int>(samples_.size()) - running_samples(); }
  // Time that all open work takes.
  absl::Duration PredictBacklog(const CostModel&) const;
  // Until the last picture of each job with a sample of `running` or among the most urgent ones, as
  // of the latest Plan().
  std::map<JobId, absl::Duration> PredictRemaining(absl::Time now, const CostModel&,
                                                   absl::Span<const Placement> running = {}) const;

 private:
  using JobUrgency = std::pair<absl::Time, uint64_t>;  // effective deadline, arrival
  using Urgency = std::pair<JobUrgency, SampleRef>;

  struct OpenJob {
    std::shared_ptr<const SamplerPlan> plan;
    float guidance_scale = 1;
    LatentSize size;
    absl::Time deadline;
    absl::Time done_by;  // so that the answer is in time
    JobUrgency urgency;
    int open_samples = 0;
    bool embedded = false;

    int rows() const { return RowsPerStep(guidance_scale); }
  };
  struct Sample {
    SampleRef ref;
    OpenJob* job = nullptr;
    std::optional<SlotId> slot;
    size_t next_step = 0;

    Urgency urgency() const { return {job->urgency, ref}; }
    int steps_left() const { return static_cast<int>(job->plan->steps.size() - next_step); }
    Candidate candidate(absl::Time now) const;
  };
  // Samples with steps to go stand in lines of equals, so that a plan looks at no sample that it
  // could not take.
  struct LineKey {
    LatentSize size;
    int rows = 1;
    bool has_slot = false;

    auto operator<=>(const LineKey&) const = default;
  };
  using Line = std::map<Urgency, Sample*>;
  struct Work {
    int64_t rows = 0;
    int pictures = 0;
  };
  class Walk;

  void Stop(JobId, const absl::Status& why, Tick*);
  void StopExpiredAndCancelled(absl::Time now, Tick*);
  Sample* First(absl::Time now, Forecast&);
  void ChooseRows(absl::Time now, Forecast&, Tick*);
  bool HasRunnable(int rows, bool slots_are_free, LatentSize but_not) const;
  void TakeRows(Sample&, Tick*);
  void ChooseDecodes(absl::Time now, Forecast&, Tick*);
  void Place(Sample&, Tick*);
  const Sample* FirstOf(const std::vector<Placement>&) const;
  void Join(Sample&);
  void Leave(const Sample&);
  void End(const SampleRef&);

  StepBatcherOptions options_;
  LineOrder order_;
  MemoryCeilings row_ceilings_;
  MemoryCeilings decode_ceilings_;
  bool is_unet_out_of_memory_ = false;  // in the running tick, ...
  bool is_vae_out_of_memory_ = false;   // ... likewise
  std::map<JobId, OpenJob> jobs_;
  std::set<std::pair<absl::Time, JobId>> deadlines_;
  std::map<SampleRef, Sample> samples_;
  std::map<LineKey, Line> lines_;
  Line finished_;                       // samples whose latents wait for the VAE
  std::map<LatentSize, Work> backlog_;  // of all open samples
  std::vector<std::pair<JobId, absl::Status>> cancelled_;
  std::vector<SlotId> free_slots_;
  std::vector<JobId> forget_;
  uint64_t arrivals_ = 0;
};

}  // namespace image_variations
