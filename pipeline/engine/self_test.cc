#include "pipeline/engine/self_test.h"

#include <algorithm>
#include <map>

#include "pipeline/base/status_macros.h"
#include "pipeline/engine/row_buckets.h"

namespace image_variations {
namespace {

constexpr SamplerStep kSteps[] = {
    {.timestep = 981, .sample = 1.02f, .prediction = -0.1f},
    {.timestep = 480.5f, .input_scale = 0.4f, .prediction = -0.7f},
};

// A sample is its seed; odd ones are never guided. In larger calls they repeat.
constexpr int kUnlikeSamples = 4;
constexpr int kQuickSamples = 2;
constexpr int kNotGuided = 1;

class SelfTest {
 public:
  SelfTest(ModelRunner& runner, JobId job, absl::FunctionRef<std::string(SlotId)> latents_of,
           const Clock& clock, const SelfTestOptions& options)
      : runner_(runner), job_(job), latents_of_(latents_of), clock_(clock), options_(options) {}

  absl::StatusOr<SelfTestResult> Run() {
    ASSIGN_OR_RETURN(const bool is_reproducible, IsReproducible());
    return SelfTestResult{.is_reproducible = is_reproducible, .calls = TimedCalls()};
  }

 private:
  absl::StatusOr<bool> IsReproducible() {
    for (int sample = 0; sample < (options_.is_quick ? 1 : kUnlikeSamples); ++sample) {
      ASSIGN_OR_RETURN(const std::vector<std::string> latents,
                       StepTogether({sample}, PaddedRows(runner_.info().row_buckets,
                                                         RowsPerStep(GuidanceOf(sample)))));
      alone_.push_back(latents[0]);
    }
    int smaller = 0;  // row count
    for (const int rows : options_.call_rows) {
      // A full call, and one with a dead row where a smaller count does not hold it.
      const int living = std::max(rows - 1, smaller + 1);
      absl::StatusOr<bool> same = IsSameInCompany(Fill(rows, 1), rows);
      if (same.ok() && *same && !options_.is_quick) {
        same = IsSameInCompany(Fill(living, 0), rows);
      }
      if (absl::IsResourceExhausted(same.status())) break;
      if (!same.ok() || !*same) return same;
      smaller = rows;
    }
    return true;
  }

  std::vector<TimedCall> TimedCalls() const {
    std::vector<TimedCall> calls;
    absl::Duration per_row = absl::InfiniteDuration();
    for (auto call = shortest_.rbegin(); call != shortest_.rend(); ++call) {
      const auto& [rows, time] = *call;
      per_row = std::min(per_row, time / rows);
      calls.push_back({options_.size, rows, per_row * rows});
    }
    std::ranges::reverse(calls);
    return calls;
  }

  float GuidanceOf(int sample) const {
    return options_.is_quick || sample % 2 == kNotGuided ? 1.0f : 3.0f;
  }

  // Samples that take `rows` rows, the first of them being `first`; the last may be one that is
  // not guided, so that no row is left.
  std::vector<int> Fill(int rows, int first) const {
    std::vector<int> samples;
    for (int next = first; rows > 0; ++next) {
      int sample = next % (options_.is_quick ? kQuickSamples : kUnlikeSamples);
      if (RowsPerStep(GuidanceOf(sample)) > rows) sample = kNotGuided;
      rows -= RowsPerStep(GuidanceOf(sample));
      samples.push_back(sample);
    }
    return samples;
  }

  absl::StatusOr<bool> IsSameInCompany(const std::vector<int>& samples, int call_rows) {
    if (static_cast<int>(samples.size()) > options_.max_slots) return true;
    ASSIGN_OR_RETURN(const std::vector<std::string> latents, StepTogether(samples, call_rows));
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto sample = static_cast<size_t>(samples[i]);
      if (sample < alone_.size() && latents[i] != alone_[sample]) return false;
    }
    return true;
  }

  // The latents of the samples after one step from the start, all in one call.
  absl::StatusOr<std::vector<std::string>> StepTogether(const std::vector<int>& samples,
                                                        int call_rows) {
    std::vector<PrepareRow> prepare;
    std::vector<StepRow> rows;
    for (const int sample : samples) {
      const auto slot = static_cast<SlotId>(rows.size());
      prepare.push_back({.slot = slot,
                         .seed = static_cast<uint64_t>(sample),
                         .latent_width = options_.size.width,
                         .latent_height = options_.size.height});
      rows.push_back({.slot = slot,
                      .job = job_,
                      .step = &kSteps[sample % 2],
                      .guidance_scale = GuidanceOf(sample)});
    }
    RETURN_IF_ERROR(runner_.PrepareLatents(prepare));
    const absl::Time begin = clock_.Now();
    ASSIGN_OR_RETURN(const std::vector<bool> finite, runner_.Denoise(rows, call_rows));
    const absl::Duration time = clock_.Now() - begin;
    absl::Duration& shortest = shortest_.try_emplace(call_rows, time).first->second;
    shortest = std::min(shortest, time);
    if (std::ranges::count(finite, false) > 0) {
      return absl::InternalError("the UNet's output is not finite");
    }
    std::vector<std::string> latents;
    for (const StepRow& row : rows) latents.push_back(latents_of_(row.slot));
    return latents;
  }

  ModelRunner& runner_;
  const JobId job_;
  const absl::FunctionRef<std::string(SlotId)> latents_of_;
  const Clock& clock_;
  const SelfTestOptions& options_;
  std::vector<std::string> alone_;          // by sample
  std::map<int, absl::Duration> shortest_;  // call, by its rows
};

}  // namespace

absl::StatusOr<SelfTestResult> TestReproducibility(
    ModelRunner& runner, JobId job, absl::FunctionRef<std::string(SlotId)> latents_of,
    const Clock& clock, const SelfTestOptions& options) {
  return SelfTest(runner, job, latents_of, clock, options).Run();
}

}  // namespace image_variations
