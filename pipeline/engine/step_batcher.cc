#include "pipeline/engine/step_batcher.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kLookAhead = 64;  // samples of a line that one plan or prediction looks at
constexpr int kGuidedRows = 2;
constexpr double kRounding = 1e-9;  // of a sum of times that is just enough

}  // namespace

// Several lines as one, in order of urgency.
class StepBatcher::Walk {
 public:
  void Add(const LineKey& key, const Line& line) {
    if (!line.empty()) lines_.push_back({key, line.begin(), line.end()});
  }
  template <typename Predicate>
  void DropLines(Predicate predicate) {
    std::erase_if(lines_, [&](const Position& position) { return predicate(position.key); });
  }
  // nullptr after the last one.
  Sample* Next() {
    const auto next = std::min_element(
        lines_.begin(), lines_.end(),
        [](const Position& a, const Position& b) { return a.at->first < b.at->first; });
    if (next == lines_.end()) return nullptr;
    Sample* sample = next->at->second;
    if (++next->at == next->end) lines_.erase(next);
    return sample;
  }

 private:
  struct Position {
    LineKey key;
    Line::const_iterator at, end;
  };
  std::vector<Position> lines_;
};

Candidate StepBatcher::Sample::candidate(absl::Time now) const {
  return {.rows = job->rows(),
          .steps_left = steps_left(),
          .needs_embedding = !job->embedded,
          .seconds_left = absl::ToDoubleSeconds(job->done_by - now)};
}

StepBatcher::StepBatcher(StepBatcherOptions options)
    : options_(std::move(options)),
      order_(options_.interactive_target, options_.batch_target),
      row_ceilings_(options_.max_rows, kGuidedRows),
      decode_ceilings_(options_.max_decodes_per_tick, 1) {
  IV_CHECK(options_.max_slots > 0 && options_.max_rows > 0);
  for (SlotId slot = options_.max_slots; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

absl::Status StepBatcher::Enqueue(const Job& job, absl::Time now, const CostModel& cost) {
  if (waiting_samples() + job.sample_count > options_.max_waiting_samples) {
    return absl::ResourceExhaustedError(absl::StrCat("the line is full: ", waiting_samples(),
                                                     " samples wait, limit ",
                                                     options_.max_waiting_samples));
  }
  const LatentSize size{job.latent_width, job.latent_height};
  const auto steps = static_cast<int64_t>(job.plan->steps.size());
  const int64_t rows = steps * job.sample_count * RowsPerStep(job.guidance_scale);
  Forecast forecast(cost, options_.max_rows);
  const absl::Duration work = forecast.times(size).WorkOf(rows, job.sample_count, 1);
  const absl::Time place = order_.PlaceOf(job.caller, job.priority, job.deadline, now);
  order_.Join(job.caller, job.priority, work, now);
  const auto [it, is_new] = jobs_.emplace(job.id, OpenJob{.plan = job.plan,
                                                          .guidance_scale = job.guidance_scale,
                                                          .size = size,
                                                          .deadline = job.deadline,
                                                          .done_by = job.deadline - job.answer_time,
                                                          .urgency = {place, arrivals_++},
                                                          .open_samples = job.sample_count});
  IV_CHECK(is_new && job.sample_count > 0 && steps > 0);
  deadlines_.emplace(job.deadline, job.id);
  for (int index = 0; index < job.sample_count; ++index) {
    const SampleRef ref{job.id, index};
    Join(samples_.emplace(ref, Sample{ref, &it->second, {}}).first->second);
  }
  backlog_[size].rows += rows;
  backlog_[size].pictures += job.sample_count;
  return absl::OkStatus();
}

void StepBatcher::Cancel(JobId id, absl::Status why) {
  cancelled_.emplace_back(id, std::move(why));
}

void StepBatcher::CancelAll(const absl::Status& why) {
  for (const auto& [id, job] : jobs_) Cancel(id, why);
}

Tick StepBatcher::Plan(absl::Time now, const CostModel& cost) {
  Tick tick;
  StopExpiredAndCancelled(now, &tick);
  Forecast forecast(cost, options_.max_rows);
  ChooseRows(now, forecast, &tick);
  ChooseDecodes(now, forecast, &tick);
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

// The most urgent sample that can still be in time; when none can, the most urgent one.
StepBatcher::Sample* StepBatcher::First(absl::Time now, Forecast& forecast) {
  Walk walk;
  for (const auto& [key, line] : lines_) {
    if (key.has_slot || !free_slots_.empty()) walk.Add(key, line);
  }
  Sample* first = nullptr;
  for (int looked_at = 0; looked_at < kLookAhead; ++looked_at) {
    Sample* sample = walk.Next();
    if (sample == nullptr) break;
    if (!sample->candidate(now).is_lost(forecast.times(sample->job->size))) return sample;
    if (first == nullptr) first = sample;
  }
  return first;
}

void StepBatcher::ChooseRows(absl::Time now, Forecast& forecast, Tick* tick) {
  const Sample* first = First(now, forecast);
  if (first == nullptr) return;
  const LatentSize size = first->job->size;
  const SampleTimes& times = forecast.times(size);
  const StepCostModel& cost = forecast.cost().unet;
  CallChoice choice(times, cost.RowsWithin(row_ceilings_.Of(size)), first->job->rows());
  size_t slots = free_slots_.size();
  std::vector<Sample*> chosen, lost;
  int deferred = 0;
  const auto take = [&](Sample* sample) {
    if (sample->job->rows() > choice.rows_left() || (!sample->slot && slots == 0)) return;
    Candidate candidate = sample->candidate(now);
    if (candidate.needs_embedding) {  // once for all samples of a job
      candidate.needs_embedding = std::ranges::none_of(
          chosen, [&](const Sample* other) { return other->job == sample->job; });
    }
    if (!choice.Take(candidate)) {
      ++deferred;
      return;
    }
    if (!sample->slot) --slots;
    chosen.push_back(sample);
  };
  Walk walk;
  for (const auto& [key, line] : lines_) {
    if (key.size == size) walk.Add(key, line);
  }
  while (choice.rows_left() > 0 && lost.size() + static_cast<size_t>(deferred) < kLookAhead) {
    walk.DropLines([&](const LineKey& key) {
      return key.rows > choice.rows_left() || (!key.has_slot && slots == 0);
    });
    Sample* sample = walk.Next();
    if (sample == nullptr) break;
    if (sample->candidate(now).is_lost(times)) {
      lost.push_back(sample);
    } else {
      take(sample);
    }
  }
  for (Sample* sample : lost) take(sample);
  tick->is_split_by_size = HasRunnable(choice.rows_left(), slots > 0, size);
  chosen.resize(static_cast<size_t>(choice.Together()));
  for (Sample* sample : chosen) TakeRows(*sample, tick);
  tick->padded_rows = cost.PaddedRows(tick->unet_rows);
}

bool StepBatcher::HasRunnable(int rows, bool slots_are_free, LatentSize but_not) const {
  return std::ranges::any_of(lines_, [&](const auto& line) {
    const LineKey& key = line.first;
    return key.size != but_not && key.rows <= rows && (key.has_slot || slots_are_free);
  });
}

void StepBatcher::TakeRows(Sample& sample, Tick* tick) {
  if (!sample.slot) Place(sample, tick);
  const OpenJob& job = *sample.job;
  tick->denoise.push_back({sample.ref, *sample.slot});
  tick->step_rows.push_back(
      {*sample.slot, sample.ref.job, &job.plan->steps[sample.next_step], job.guidance_scale});
  tick->unet_rows += job.rows();
}

void StepBatcher::OnUnetOutOfMemory(LatentSize size, int rows) {
  row_ceilings_.OnOutOfMemory(size, rows);
  is_unet_out_of_memory_ = true;
}

void StepBatcher::OnVaeOutOfMemory(LatentSize size, int pictures) {
  decode_ceilings_.OnOutOfMemory(size, pictures);
  is_vae_out_of_memory_ = true;
}

void StepBatcher::Place(Sample& sample, Tick* tick) {
  Leave(sample);
  sample.slot = free_slots_.back();
  free_slots_.pop_back();
  Join(sample);
  tick->prepare.push_back({sample.ref, *sample.slot});
  if (!std::exchange(sample.job->embedded, true)) tick->embed.push_back(sample.ref.job);
}

// Samples that finished earlier, then those that take their last step in this very tick: one, and
// more of them while the VAE takes no longer than the call. A picture waits when a more urgent
// sample of the call, or a picture before it, would be late for it: pictures of a tick are answered
// together.
void StepBatcher::ChooseDecodes(absl::Time now, Forecast& forecast, Tick* tick) {
  Line ready = finished_;
  double step = 0;
  double embeddings = 0;
  for (const Placement& placement : tick->denoise) {
    Sample& sample = samples_.at(placement.sample);
    const SampleTimes& times = forecast.times(sample.job->size);
    step = times.step[static_cast<size_t>(tick->unet_rows)];
    embeddings = static_cast<double>(tick->embed.size()) * times.embedding;
    if (sample.steps_left() == 1) ready.emplace(sample.urgency(), &sample);
  }
  const Margin margin = forecast.margin();
  double decodes = 0;  // of the pictures that were chosen
  const auto makes_late = [&](const Urgency& urgency, double time) {
    const auto is_made_late = [&](const Sample& other, double needed) {
      const double left = other.candidate(now).seconds_left;
      return needed <= left * (1 + kRounding) && margin.On(needed + time) > left;
    };
    const bool of_call = std::ranges::any_of(tick->denoise, [&](const Placement& placement) {
      const Sample& running = samples_.at(placement.sample);
      if (running.steps_left() == 1 || running.urgency() > urgency) return false;
      const SampleTimes& times = forecast.times(running.job->size);
      return is_made_late(running,
                          embeddings + running.candidate(now).TimeToPicture(times, step) + decodes);
    });
    return of_call || std::ranges::any_of(tick->decode, [&](const Placement& placement) {
             return is_made_late(samples_.at(placement.sample), embeddings + step + decodes);
           });
  };
  int most = options_.max_decodes_per_tick;
  for (const auto& [urgency, sample] : ready) {
    const double time = forecast.times(sample->job->size).decode;
    most = std::min(most, decode_ceilings_.Of(sample->job->size));
    const bool is_first = tick->decode.empty();
    if (static_cast<int>(tick->decode.size()) >= most) return;
    if ((!is_first && decodes + time > step) || makes_late(urgency, time)) return;
    decodes += time;
    tick->decode.push_back({sample->ref, *sample->slot});
  }
}

void StepBatcher::Commit(const Tick& tick, const std::vector<SampleRef>& failed) {
  if (const Sample* any = FirstOf(tick.denoise);
      !std::exchange(is_unet_out_of_memory_, false) && any != nullptr) {
    row_ceilings_.OnCall(any->job->size, tick.padded_rows);
  }
  if (const Sample* any = FirstOf(tick.decode);
      !std::exchange(is_vae_out_of_memory_, false) && any != nullptr) {
    decode_ceilings_.OnCall(any->job->size, static_cast<int>(tick.decode.size()));
  }
  for (const SampleRef& ref : failed) End(ref);
  for (const Placement& placement : tick.denoise) {
    const auto it = samples_.find(placement.sample);
    if (it == samples_.end()) continue;  // failed
    Sample& sample = it->second;
    backlog_[sample.job->size].rows -= sample.job->rows();
    if (sample.steps_left() > 1) {
      ++sample.next_step;
      continue;
    }
    Leave(sample);
    ++sample.next_step;
    Join(sample);
  }
  for (const Placement& placement : tick.decode) {
    if (samples_.contains(placement.sample)) End(placement.sample);
  }
}

const StepBatcher::Sample* StepBatcher::FirstOf(const std::vector<Placement>& placements) const {
  if (placements.empty()) return nullptr;
  const auto first = samples_.find(placements[0].sample);
  return first == samples_.end() ? nullptr : &first->second;
}

void StepBatcher::Join(Sample& sample) {
  if (sample.steps_left() == 0) {
    finished_.emplace(sample.urgency(), &sample);
  } else {
    lines_[{sample.job->size, sample.job->rows(), sample.slot.has_value()}].emplace(
        sample.urgency(), &sample);
  }
}

void StepBatcher::Leave(const Sample& sample) {
  if (sample.steps_left() == 0) {
    finished_.erase(sample.urgency());
    return;
  }
  const auto line = lines_.find({sample.job->size, sample.job->rows(), sample.slot.has_value()});
  line->second.erase(sample.urgency());
  if (line->second.empty()) lines_.erase(line);
}

void StepBatcher::End(const SampleRef& ref) {
  const auto it = samples_.find(ref);
  OpenJob& job = *it->second.job;
  Leave(it->second);
  const auto backlog = backlog_.find(job.size);
  backlog->second.rows -= int64_t{job.rows()} * it->second.steps_left();
  if (--backlog->second.pictures == 0) backlog_.erase(backlog);
  if (it->second.slot) free_slots_.push_back(*it->second.slot);
  samples_.erase(it);
  if (--job.open_samples > 0) return;
  if (job.embedded) forget_.push_back(ref.job);
  deadlines_.erase({job.deadline, ref.job});
  jobs_.erase(ref.job);
}

absl::Duration StepBatcher::PredictBacklog(const CostModel& cost) const {
  Forecast forecast(cost, options_.max_rows);
  absl::Duration time;
  for (const auto& [size, work] : backlog_) {
    time += forecast.times(size).WorkOf(work.rows, work.pictures, 0);
  }
  return time;
}

std::map<JobId, absl::Duration> StepBatcher::PredictRemaining(
    absl::Time now, const CostModel& cost, absl::Span<const Placement> running) const {
  Walk walk;
  for (const auto& [key, line] : lines_) walk.Add(key, line);
  std::map<Urgency, const Sample*> samples(finished_.begin(), finished_.end());
  for (int i = 0; i < kLookAhead; ++i) {
    if (const Sample* next = walk.Next()) samples.emplace(next->urgency(), next);
  }
  for (const Placement& placement : running) {  // these may stand farther back
    const Sample& sample = samples_.at(placement.sample);
    samples.emplace(sample.urgency(), &sample);
  }
  std::vector<ForecastSamples> planned;
  std::map<JobId, int> counted;
  for (const auto& [urgency, sample] : samples) {
    const OpenJob& job = *sample->job;
    planned.push_back({.place = absl::ToDoubleSeconds(job.urgency.first - now),
                       .deadline = absl::ToDoubleSeconds(job.done_by - now),
                       .size = job.size,
                       .steps_left = sample->steps_left(),
                       .rows = job.rows(),
                       .needs_embedding = !job.embedded});
    ++counted[sample->ref.job];
  }
  Forecast forecast(cost, options_.max_rows);
  const std::vector<ForecastTimes> times = forecast.Play(planned);
  std::map<JobId, absl::Duration> remaining;
  auto next = times.begin();
  for (const auto& [urgency, sample] : samples) {
    absl::Duration& time = remaining[sample->ref.job];
    time = std::max(time, absl::Seconds((next++)->end));
  }
  for (auto& [id, time] : remaining) {  // and the samples of these jobs farther back in line
    const OpenJob& job = jobs_.at(id);
    const int farther = job.open_samples - counted.at(id);
    const auto rows = static_cast<int64_t>(job.plan->steps.size()) * job.rows() * farther;
    time += forecast.times(job.size).WorkOf(rows, farther, 0);
  }
  return remaining;
}

}  // namespace image_variations
