#include "pipeline/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/decode_stage.h"
#include "pipeline/engine/job_record.h"
#include "pipeline/engine/non_finite.h"
#include "pipeline/engine/warm_up.h"
#include "pipeline/image/shrink.h"

namespace image_variations {

namespace {

constexpr absl::Duration kMemoryInterval = absl::Seconds(1);

SampleOutcome OutcomeOf(const absl::StatusOr<SampleResult>& result) {
  switch (result.status().code()) {
    case absl::StatusCode::kOk:
      return result->image.blocked() ? SampleOutcome::kFiltered : SampleOutcome::kGenerated;
    case absl::StatusCode::kCancelled:
      return SampleOutcome::kCancelled;
    case absl::StatusCode::kDeadlineExceeded:
      return SampleOutcome::kExpired;
    default:
      return SampleOutcome::kFailed;
  }
}

// The jobs of some samples, each once.
std::vector<JobId> JobsOf(absl::Span<const Placement> placements) {
  std::vector<JobId> jobs;
  for (const Placement& placement : placements) jobs.push_back(placement.sample.job);
  std::sort(jobs.begin(), jobs.end());
  jobs.erase(std::unique(jobs.begin(), jobs.end()), jobs.end());
  return jobs;
}

}  // namespace

Engine::Engine(EngineOptions options, std::unique_ptr<ModelRunner> runner, const Clock& clock,
               EngineObserver& observer)
    : options_(std::move(options)),
      safety_(options_.safety),
      runner_(std::move(runner)),
      clock_(clock),
      observer_(observer),
      batcher_(options_.batcher),
      cost_{.unet = StepCostModel(runner_->info().row_buckets)} {}

Engine::~Engine() {
  TakeMail();
  batcher_.CancelAll(absl::CancelledError("the engine is closing"));
  Answer(batcher_.Plan(absl::InfinitePast(), cost_).stopped);
}

absl::Status Engine::Submit(Job job) {
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(status_.device);
  submitted_.push_back({std::move(job), now});
  return absl::OkStatus();
}

void Engine::Cancel(JobId id, absl::Status why) {
  absl::MutexLock lock(&mutex_);
  cancelled_.emplace_back(id, std::move(why));
}

EngineStatus Engine::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

absl::Status Engine::WarmUp() {
  RETURN_IF_ERROR(image_variations::WarmUp(
      *runner_, clock_, std::min(options_.batcher.max_rows, options_.batcher.max_slots),
      options_.warm_up_budget, &cost_));
  PublishStatus();
  return absl::OkStatus();
}

bool Engine::RunTick() {
  const absl::Time begin = clock_.Now();
  failed_.clear();
  report_ = {};
  predicted_ = absl::ZeroDuration();
  TakeMail();
  planned_at_ = clock_.Now();
  const Tick tick = batcher_.Plan(planned_at_, cost_);
  Answer(tick.stopped);
  Forget(tick.forget);
  EmbedImages(tick);
  PrepareLatents(tick);
  Denoise(tick);
  DecodeJudgeAndAnswer(tick);
  report_.batch_key_splits = tick.is_split_by_size ? 1 : 0;
  batcher_.Commit(tick, failed_);
  cost_.pace.Observe(predicted_, clock_.Now() - begin);
  PublishStatus();
  return !batcher_.idle();
}

void Engine::WaitForMail(absl::Time until) {
  absl::MutexLock lock(&mutex_);
  const auto has_mail = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return woken_ || !submitted_.empty() || !cancelled_.empty();
  };
  mutex_.AwaitWithTimeout(absl::Condition(&has_mail), until - clock_.Now());
  woken_ = false;
}

void Engine::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

void Engine::TakeMail() {
  std::vector<Mail> submitted;
  std::vector<std::pair<JobId, absl::Status>> cancelled;
  {
    absl::MutexLock lock(&mutex_);
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
  }
  for (Mail& mail : submitted) {
    const JobId id = mail.job.id;
    const int sample_count = mail.job.sample_count;
    const absl::Status enqueued =
        device_.ok() ? batcher_.Enqueue(mail.job, clock_.Now(), cost_) : device_;
    jobs_.emplace(id, std::make_unique<JobRecord>(std::move(mail.job), mail.submitted));
    if (enqueued.ok()) continue;
    for (int index = 0; index < sample_count; ++index) EndSample({id, index}, enqueued);
  }
  for (auto& [id, why] : cancelled) batcher_.Cancel(id, std::move(why));
}

void Engine::Answer(const std::vector<Stopped>& stopped) {
  for (const Stopped& sample : stopped) EndSample(sample.sample, sample.why);
}

void Engine::Forget(const std::vector<JobId>& jobs) {
  for (const JobId job : jobs) runner_->Forget(job);
}

void Engine::EmbedImages(const Tick& tick) {
  for (const JobId id : tick.embed) {
    JobRecord& open = *jobs_.at(id);
    const absl::Time begin = clock_.Now();
    open.metrics.queue_time = begin - open.submitted;
    const Beat beat(heartbeat_, "embed", begin, cost_.embedding.Predict(CostModel::kSourceArea),
                    &predicted_);
    const absl::Status status =
        device_.ok() ? runner_->EmbedImage(id, *open.job.source, open.job.preprocessing) : device_;
    open.metrics.embed_time = clock_.Now() - begin;
    report_.embed_time += open.metrics.embed_time;
    ++report_.embedded_jobs;
    if (status.ok()) {
      cost_.embedding.Observe(CostModel::kSourceArea, open.metrics.embed_time);
    } else {
      FailJob(id, status, tick);
    }
  }
}

void Engine::PrepareLatents(const Tick& tick) {
  RunSplitting(StillOpen(tick.prepare), [this](absl::Span<const Placement> samples) {
    std::vector<PrepareRow> rows;
    for (const auto& [sample, slot] : samples) {
      const Job& job = jobs_.at(sample.job)->job;
      rows.push_back({.slot = slot,
                      .seed = job.seed + static_cast<uint64_t>(sample.index),
                      .latent_width = job.latent_width,
                      .latent_height = job.latent_height,
                      .init_noise_sigma = job.plan->init_noise_sigma});
    }
    const Beat beat(heartbeat_, "prepare", clock_.Now(), absl::ZeroDuration(), &predicted_);
    return runner_->PrepareLatents(rows);
  });
}

void Engine::Denoise(const Tick& tick) {
  const std::vector<Placement> samples = StillOpen(tick.denoise);
  std::vector<StepRow> rows;
  for (const Placement& placement : samples) {
    rows.push_back(*std::find_if(tick.step_rows.begin(), tick.step_rows.end(),
                                 [&](const StepRow& row) { return row.slot == placement.slot; }));
  }
  RunSplitting(samples, [&](absl::Span<const Placement> part) {
    const size_t first = static_cast<size_t>(part.data() - samples.data());
    return DenoiseSamples(part, absl::MakeConstSpan(rows).subspan(first, part.size()));
  });
}

absl::Status Engine::DenoiseSamples(absl::Span<const Placement> samples,
                                    absl::Span<const StepRow> rows) {
  int unet_rows = 0;
  for (const StepRow& row : rows) unet_rows += RowsPerStep(row.guidance_scale);
  const int padded_rows = cost_.unet.PaddedRows(unet_rows);
  const LatentSize size = jobs_.at(samples[0].sample.job)->size();
  const absl::Time begin = clock_.Now();
  const auto finite = [&] {
    const Beat beat(heartbeat_, "denoise", begin, cost_.unet.Predict(size.area(), unet_rows),
                    &predicted_);
    return runner_->Denoise(rows, padded_rows);
  }();
  const absl::Time end = clock_.Now();
  if (absl::IsResourceExhausted(finite.status())) {
    observer_.OnOutOfMemory(padded_rows);
    // What does not fit alone says nothing of the calls of others.
    if (samples.size() > 1) batcher_.OnUnetOutOfMemory(size, padded_rows);
  }
  RETURN_IF_ERROR(finite.status());

  cost_.unet.Observe(size.area(), unet_rows, end - begin);
  report_.unet_rows += unet_rows;
  report_.padded_rows += padded_rows;
  report_.denoise_time += end - begin;
  for (const JobId id : JobsOf(samples)) jobs_.at(id)->CountCall(begin, end, unet_rows);
  for (size_t i = 0; i < samples.size(); ++i) {
    jobs_.at(samples[i].sample.job)->CountStep(samples[i].sample.index, rows[i]);
  }
  ReportProgress(samples);
  ShowPreviews(samples, rows, *finite);
  for (size_t i = 0; i < samples.size(); ++i) {
    if (!(*finite)[i]) Fail(samples[i].sample, NonFiniteError("denoise"));
  }
  return absl::OkStatus();
}

void Engine::ReportProgress(absl::Span<const Placement> samples) {
  const auto remaining = batcher_.PredictRemaining(planned_at_, cost_, samples);
  const absl::Duration elapsed = clock_.Now() - planned_at_;
  for (const JobId id : JobsOf(samples)) {
    const JobRecord& record = *jobs_.at(id);
    record.job.listener->OnProgress(record.Progress(remaining.at(id) - elapsed));
  }
}

// A preview that fails is left out; the sample goes on.
void Engine::ShowPreviews(absl::Span<const Placement> samples, absl::Span<const StepRow> rows,
                          const std::vector<bool>& finite) {
  if (safety_.mode() == SafetyMode::kRequired) return;
  std::vector<SlotId> slots;
  std::vector<std::pair<SampleRef, int>> shown;  // and after which step
  for (size_t i = 0; i < samples.size(); ++i) {
    const Job& job = jobs_.at(samples[i].sample.job)->job;
    const auto step = static_cast<int>(rows[i].step - job.plan->steps.data()) + 1;
    const bool is_due = job.preview_interval_steps > 0 && step % job.preview_interval_steps == 0;
    if (!is_due || !finite[i] || step == static_cast<int>(job.plan->steps.size())) continue;
    slots.push_back(samples[i].slot);
    shown.emplace_back(samples[i].sample, step);
  }
  if (slots.empty()) return;
  absl::StatusOr<std::vector<Image>> pictures = runner_->PreviewLatents(slots);
  if (absl::IsDataLoss(pictures.status())) LoseDevice(pictures.status());
  if (!pictures.ok()) return;
  for (size_t i = 0; i < shown.size(); ++i) {
    const auto& [sample, step] = shown[i];
    const Job& job = jobs_.at(sample.job)->job;
    Image& picture = (*pictures)[i];
    if (job.preview_max_side > 0) picture = Shrink(picture, job.preview_max_side);
    job.listener->OnPreview(sample.index, step, safety_.Judge(std::move(picture), {}));
  }
}

void Engine::DecodeJudgeAndAnswer(const Tick& tick) {
  RunSplitting(StillOpen(tick.decode),
               [this](absl::Span<const Placement> samples) { return DecodeSamples(samples); });
}

absl::Status Engine::DecodeSamples(absl::Span<const Placement> samples) {
  int64_t area = 0;
  LatentSize largest;
  for (const Placement& placement : samples) {
    const LatentSize size = jobs_.at(placement.sample.job)->size();
    area += size.area();
    if (size.area() > largest.area()) largest = size;
  }
  const int count = static_cast<int>(samples.size());
  const Beat beat(heartbeat_, "decode", clock_.Now(), cost_.decode.Predict(area), &predicted_);
  ASSIGN_OR_RETURN(JudgedSamples judged, DecodeAndJudge(samples, *runner_, safety_, clock_, [&] {
                     observer_.OnOutOfMemory(count);
                     if (count > 1) batcher_.OnVaeOutOfMemory(largest, count);
                   }));

  // Samples of several sizes may be decoded together: each has its share by area.
  const int64_t first = jobs_.at(samples[0].sample.job)->size().area();
  cost_.decode.Observe(first, (judged.decode_time + judged.safety_time) *
                                  (static_cast<double>(first) / static_cast<double>(area)));
  report_.latents_decode_time += judged.decode_time;
  report_.safety_time += judged.safety_time;
  report_.decoded_samples += count;
  for (const JobId id : JobsOf(samples)) {
    jobs_.at(id)->metrics.latents_decode_time += judged.decode_time;
    jobs_.at(id)->metrics.safety_time += judged.safety_time;
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    absl::StatusOr<SampleResult>& result = judged.results[i];
    if (result.ok()) {
      EndSample(samples[i].sample, std::move(result));
    } else {
      Fail(samples[i].sample, result.status());
    }
  }
  return absl::OkStatus();
}

// Runs `call` over the samples; when the device is out of memory, over each half of them. A call
// that fails for good fails its samples.
void Engine::RunSplitting(absl::Span<const Placement> samples,
                          absl::FunctionRef<absl::Status(absl::Span<const Placement>)> call) {
  if (samples.empty()) return;
  const absl::Status status = device_.ok() ? call(samples) : device_;
  if (status.ok()) return;
  if (absl::IsResourceExhausted(status) && samples.size() > 1) {
    RunSplitting(samples.first(samples.size() / 2), call);
    RunSplitting(samples.subspan(samples.size() / 2), call);
    return;
  }
  if (absl::IsDataLoss(status)) LoseDevice(status);
  for (const Placement& placement : samples) {
    Fail(placement.sample, device_.ok() ? status : device_);
  }
}

std::vector<Placement> Engine::StillOpen(std::vector<Placement> placements) const {
  std::erase_if(placements, [this](const Placement& placement) {
    return std::ranges::count(failed_, placement.sample) > 0;
  });
  return placements;
}

void Engine::Fail(const SampleRef& sample, const absl::Status& why) {
  failed_.push_back(sample);
  EndSample(sample, why);
}

// The job's samples of this tick end now, the others at the next Plan().
void Engine::FailJob(JobId id, const absl::Status& why, const Tick& tick) {
  if (absl::IsDataLoss(why)) LoseDevice(why);
  const absl::Status told = device_.ok() ? why : device_;
  batcher_.Cancel(id, told);
  for (const Placement& placement : tick.denoise) {
    if (placement.sample.job == id) Fail(placement.sample, told);
  }
}

void Engine::LoseDevice(const absl::Status& why) {
  device_ = absl::UnavailableError(absl::StrCat("the device is lost: ", why.message()));
  batcher_.CancelAll(device_);
  {
    absl::MutexLock lock(&mutex_);
    status_.device = device_;
  }
  observer_.OnDeviceLost(why);
}

void Engine::EndSample(const SampleRef& sample, absl::StatusOr<SampleResult> result) {
  const auto it = jobs_.find(sample.job);
  JobRecord& open = *it->second;
  observer_.OnSampleEnd(OutcomeOf(result), open.unet_rows[static_cast<size_t>(sample.index)]);
  open.job.listener->OnSample(sample.index, std::move(result));
  if (--open.open_samples > 0) return;
  open.job.listener->OnDone(open.FinalMetrics());
  jobs_.erase(it);
}

void Engine::PublishStatus() {
  report_.running_samples = batcher_.running_samples();
  report_.waiting_samples = batcher_.waiting_samples();
  report_.predicted_backlog = batcher_.PredictBacklog(cost_);
  report_.cost = &cost_;
  if (const absl::Time now = clock_.Now(); now - memory_read_at_ >= kMemoryInterval) {
    report_.memory = runner_->memory();
    memory_read_at_ = now;
  }
  observer_.OnTick(report_);
  absl::MutexLock lock(&mutex_);
  status_.rows_running = report_.unet_rows;
  status_.samples_running = report_.running_samples;
  status_.samples_waiting = report_.waiting_samples;
  status_.predicted_backlog = report_.predicted_backlog;
  status_.cost = cost_;
}

}  // namespace image_variations
