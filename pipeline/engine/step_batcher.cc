#include "pipeline/engine/step_batcher.h"

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {

StepBatcher::StepBatcher(StepBatcherOptions options) : options_(std::move(options)) {
  IV_CHECK(options_.max_slots > 0 && options_.max_rows > 0);
  IV_CHECK(options_.allowed_rows.empty() || options_.allowed_rows.back() >= options_.max_rows);
  for (SlotId slot = options_.max_slots; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

absl::Status StepBatcher::Enqueue(const Job& job, absl::Time now) {
  if (waiting_samples() + job.sample_count > options_.max_waiting_samples) {
    return absl::ResourceExhaustedError(absl::StrCat("the line is full: ", waiting_samples(),
                                                     " samples wait, limit ",
                                                     options_.max_waiting_samples));
  }
  const absl::Duration target =
      job.priority == Priority::kBatch ? options_.batch_target : options_.interactive_target;
  const JobUrgency urgency{std::min(job.deadline, now + target), arrivals_++};
  const int rows = RowsPerStep(job.guidance_scale);
  const auto [it, is_new] =
      jobs_.emplace(job.id, OpenJob{.plan = job.plan,
                                    .guidance_scale = job.guidance_scale,
                                    .latent_width = job.latent_width,
                                    .latent_height = job.latent_height,
                                    .deadline = job.deadline,
                                    .urgency = urgency,
                                    .open_samples = job.sample_count,
                                    .rows_left = int64_t{rows} * job.sample_count *
                                                 static_cast<int64_t>(job.plan->steps.size())});
  IV_CHECK(is_new && job.sample_count > 0 && !job.plan->steps.empty());
  jobs_by_urgency_.emplace(urgency, job.id);
  deadlines_.emplace(job.deadline, job.id);
  for (int index = 0; index < job.sample_count; ++index) {
    samples_.emplace(SampleRef{job.id, index}, Sample{});
    unfinished_.emplace(urgency, SampleRef{job.id, index});
  }
  return absl::OkStatus();
}

void StepBatcher::Cancel(JobId id, absl::Status why) {
  cancelled_.emplace_back(id, std::move(why));
}

void StepBatcher::CancelAll(const absl::Status& why) {
  for (const auto& [id, job] : jobs_) Cancel(id, why);
}

Tick StepBatcher::Plan(absl::Time now, const StepCostModel& cost) {
  Tick tick;
  StopExpiredAndCancelled(now, &tick);
  ChooseRows(cost, &tick);
  ChooseDecodes(&tick);
  tick.forget = std::exchange(forget_, {});
  return tick;
}

void StepBatcher::StopExpiredAndCancelled(absl::Time now, Tick* tick) {
  for (const auto& [id, why] : std::exchange(cancelled_, {})) Stop(id, why, tick);
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Stop(deadlines_.begin()->second, absl::DeadlineExceededError("the deadline passed"), tick);
  }
}

void StepBatcher::Stop(JobId id, const absl::Status& why, Tick* tick) {
  for (auto it = samples_.lower_bound(SampleRef{id, 0});
       it != samples_.end() && it->first.job == id; it = samples_.lower_bound(SampleRef{id, 0})) {
    const SampleRef sample = it->first;
    tick->stopped.push_back({sample, why});
    End(sample);
  }
}

void StepBatcher::ChooseRows(const StepCostModel& cost, Tick* tick) {
  const OpenJob* first = nullptr;
  int budget = 0;
  for (const auto& [urgency, ref] : unfinished_) {
    OpenJob& job = jobs_.at(ref.job);
    Sample& sample = samples_.at(ref);
    if (!sample.slot && free_slots_.empty()) continue;
    if (first == nullptr) {
      first = &job;
      budget = std::max(job.rows(), cost.EfficientRows(job.latent_area(), options_.max_rows));
    }
    const bool same_size =
        job.latent_width == first->latent_width && job.latent_height == first->latent_height;
    if (!same_size || tick->unet_rows + job.rows() > budget) continue;
    if (!sample.slot) Place(ref, job, sample, tick);
    tick->denoise.push_back({ref, *sample.slot});
    tick->step_rows.push_back(
        {*sample.slot, ref.job, &job.plan->steps[sample.next_step], job.guidance_scale});
    tick->unet_rows += job.rows();
    if (tick->unet_rows == budget) break;
  }
  tick->padded_rows = PaddedRows(tick->unet_rows);
}

int StepBatcher::PaddedRows(int rows) const {
  const auto& allowed = options_.allowed_rows;
  const auto bucket = std::lower_bound(allowed.begin(), allowed.end(), rows);
  return rows > 0 && bucket != allowed.end() ? *bucket : rows;
}

void StepBatcher::Place(const SampleRef& ref, OpenJob& job, Sample& sample, Tick* tick) {
  sample.slot = free_slots_.back();
  free_slots_.pop_back();
  tick->prepare.push_back({ref, *sample.slot});
  if (!std::exchange(job.embedded, true)) tick->embed.push_back(ref.job);
}

// Samples that finished earlier, then those that take their last step in this very tick.
void StepBatcher::ChooseDecodes(Tick* tick) {
  const auto has_room = [&] {
    return static_cast<int>(tick->decode.size()) < options_.max_decodes_per_tick;
  };
  for (const auto& [urgency, ref] : finished_) {
    if (!has_room()) return;
    tick->decode.push_back({ref, *samples_.at(ref).slot});
  }
  for (const Placement& placement : tick->denoise) {
    if (!has_room()) return;
    const OpenJob& job = jobs_.at(placement.sample.job);
    if (samples_.at(placement.sample).next_step + 1 == job.plan->steps.size()) {
      tick->decode.push_back(placement);
    }
  }
}

void StepBatcher::Commit(const Tick& tick, const std::vector<SampleRef>& failed) {
  for (const SampleRef& ref : failed) End(ref);
  for (const Placement& placement : tick.denoise) {
    const auto it = samples_.find(placement.sample);
    if (it == samples_.end()) continue;  // failed
    OpenJob& job = jobs_.at(placement.sample.job);
    job.rows_left -= job.rows();
    if (++it->second.next_step < job.plan->steps.size()) continue;
    unfinished_.erase({job.urgency, placement.sample});
    finished_.emplace(job.urgency, placement.sample);
  }
  for (const Placement& placement : tick.decode) End(placement.sample);
}

// Takes the sample out of everything; unknown when it has failed in the same tick.
void StepBatcher::End(const SampleRef& ref) {
  const auto it = samples_.find(ref);
  if (it == samples_.end()) return;
  OpenJob& job = jobs_.at(ref.job);
  const int64_t steps_left = static_cast<int64_t>(job.plan->steps.size() - it->second.next_step);
  job.rows_left -= job.rows() * steps_left;
  unfinished_.erase({job.urgency, ref});
  finished_.erase({job.urgency, ref});
  if (it->second.slot) free_slots_.push_back(*it->second.slot);
  samples_.erase(it);
  if (--job.open_samples > 0) return;
  if (job.embedded) forget_.push_back(ref.job);
  jobs_by_urgency_.erase(job.urgency);
  deadlines_.erase({job.deadline, ref.job});
  jobs_.erase(ref.job);
}

absl::Duration StepBatcher::PredictBacklog(const StepCostModel& cost,
                                           std::optional<JobId> up_to) const {
  absl::Duration time;
  for (const auto& [urgency, id] : jobs_by_urgency_) {
    const OpenJob& job = jobs_.at(id);
    const int rows = std::max(job.rows(), cost.EfficientRows(job.latent_area(), options_.max_rows));
    time += cost.Predict(job.latent_area(), rows) * (static_cast<double>(job.rows_left) / rows);
    if (id == up_to) break;
  }
  return time;
}

}  // namespace image_variations
