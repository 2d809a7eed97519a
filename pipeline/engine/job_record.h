// A job with samples that were not answered yet, and what is known of it so far.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

struct JobRecord {
  JobRecord(Job the_job, absl::Time when_submitted)
      : job(std::move(the_job)),
        submitted(when_submitted),
        open_samples(job.sample_count),
        samples_fresh(job.sample_count),
        unet_rows(static_cast<size_t>(job.sample_count)) {}

  LatentSize size() const { return {job.latent_width, job.latent_height}; }

  // A UNet call that some of its samples took part in.
  void CountCall(absl::Time begin, absl::Time end, int call_rows) {
    denoise_begin = std::min(denoise_begin, begin);
    metrics.denoise_time = end - denoise_begin;
    shared_rows += call_rows;
    ++shared_calls;
  }
  // A sample's step in it.
  void CountStep(int sample, const StepRow& row) {
    if (row.step == job.plan->steps.data()) --samples_fresh;
    ++steps_done;
    const int rows = RowsPerStep(row.guidance_scale);
    unet_rows[static_cast<size_t>(sample)] += rows;
    metrics.unet_rows += rows;
  }

  JobProgress Progress(absl::Duration remaining) const {
    return {.steps_done = steps_done,
            .steps_total = job.sample_count * static_cast<int>(job.plan->steps.size()),
            .samples_open = open_samples,
            .samples_fresh = samples_fresh,
            .predicted_remaining = std::max(remaining, absl::ZeroDuration())};
  }
  // Of a job that is done.
  JobMetrics FinalMetrics() const {
    JobMetrics whole = metrics;
    if (shared_calls > 0) {
      whole.mean_batch_rows = static_cast<double>(shared_rows) / static_cast<double>(shared_calls);
    }
    return whole;
  }

  Job job;
  absl::Time submitted;
  int open_samples;
  int samples_fresh;
  int steps_done = 0;
  std::vector<int> unet_rows;  // by sample
  absl::Time denoise_begin = absl::InfiniteFuture();
  int64_t shared_rows = 0;   // rows of all UNet calls that it took part in ...
  int64_t shared_calls = 0;  // ... and their number
  JobMetrics metrics{};      // of the stages so far
};

}  // namespace image_variations
