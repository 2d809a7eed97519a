// What callers of a simulated world ask for.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/step_batcher.h"
#include "tests/support/simulator.h"

namespace image_variations {

// What the world knows of a job: what was asked, and what was answered so far.
struct Asked {
  Job job;
  absl::Time arrival;
  std::optional<absl::Time> cancel_at;
  bool cancel_sent = false;
  bool is_flood = false;
  bool is_not_finite = false;  // its first sample, from the second step on
  bool is_unsafe = false;      // its first sample's picture
  bool has_begun = false;
  int order = 0;         // of arrival
  int embedded_in = -1;  // tick
  int overtaken_by = 0;  // jobs of the flood, before its first step
  std::map<int, absl::Status> answers;
  std::map<int, int> previews;  // by sample
  int steps_done = 0;
  bool done = false;

  int steps_total() const { return job.sample_count * static_cast<int>(job.plan->steps.size()); }

  // In line; both have deadlines of their own, or ended up behind all that have.
  bool Before(const Asked& other) const {
    return std::pair(job.deadline, order) < std::pair(other.job.deadline, other.order);
  }

  absl::Time effective_deadline() const {
    const StepBatcherOptions defaults;
    return std::min(job.deadline,
                    arrival + (job.priority == Priority::kBatch ? defaults.batch_target
                                                                : defaults.interactive_target));
  }
};

// Request `number`, from 1, of those of a world that begins now; without a listener.
Asked DrawRequest(const SimulationOptions&, int number, absl::Time now, std::mt19937_64& random);

}  // namespace image_variations
