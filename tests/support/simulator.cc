#include "tests/support/simulator.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/engine/engine.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

constexpr int kMaxRows = 8;
constexpr int kMaxSlots = 12;
constexpr int kMaxTicks = 20'000;
constexpr absl::Duration kStep = absl::Milliseconds(20);

// What the world knows of a job: what was asked, and what was answered so far.
struct Asked {
  Job job;
  absl::Time arrival;
  std::optional<absl::Time> cancel_at;
  bool cancel_sent = false;
  std::map<int, absl::Status> answers;
  int steps_done = 0;
  bool done = false;

  int steps_total() const { return job.sample_count * static_cast<int>(job.plan->steps.size()); }

  absl::Time effective_deadline() const {
    const StepBatcherOptions defaults;
    return std::min(job.deadline,
                    arrival + (job.priority == Priority::kBatch ? defaults.batch_target
                                                                : defaults.interactive_target));
  }
};

class World final : public EngineObserver {
 public:
  explicit World(const SimulationOptions& options) : options_(options), random_(options.seed) {
    auto runner = std::make_unique<FakeModelRunner>();
    runner_ = runner.get();
    runner_->on_call = [this](absl::string_view verb, int) { Spend(verb); };
    runner_->on_denoise = [this](absl::Span<const StepRow> rows) { CheckCall(rows); };
    runner_->fault = [this](absl::string_view verb, int rows) { return Fault(verb, rows); };
    EngineOptions engine_options;
    engine_options.batcher.max_slots = kMaxSlots;
    engine_options.batcher.max_rows = kMaxRows;
    engine_options.batcher.max_decodes_per_tick = 2;
    engine_options.batcher.max_waiting_samples = options.faults ? 20 : 1000;
    engine_ = std::make_unique<Engine>(engine_options, std::move(runner), clock_, *this);
    for (int i = 0; i < options.jobs; ++i) Ask(i + 1);
  }

  SimulationReport Run() {
    for (; report_.ticks < kMaxTicks && !report_.breach; ++report_.ticks) {
      SendWhatIsDue();
      tick_begin_ = clock_.Now();
      called_ = false;
      const bool busy = engine_->RunTick();
      for (const std::string& breach : runner_->breaches) Expect(false, breach);
      if (!busy && next_ == arrivals_.size()) break;
      if (!busy) clock_.Advance(absl::Milliseconds(50));
    }
    engine_->RunTick();
    Expect(report_.ticks < kMaxTicks, "the world does not come to its end");
    CheckEnd();
    return report_;
  }

  void OnTick(const TickReport& tick) override {
    const int running_during_tick = tick.running_samples + tick.decoded_samples;
    const bool could_take_more = tick.waiting_samples > 0 && running_during_tick < kMaxSlots;
    const bool row_is_free = tick.unet_rows + 2 <= max_rows_;
    Expect(options_.mixed_sizes || failures_in_tick_ || !could_take_more || !row_is_free,
           "a row stays free while a sample waits");
    failures_in_tick_ = false;
    running_after_tick_ = tick.running_samples;
  }
  void OnOutOfMemory(int rows) override { max_rows_ = std::max(1, std::min(max_rows_, rows / 2)); }
  void OnDeviceLost(const absl::Status&) override { ++devices_lost_; }

 private:
  class Listener final : public JobListener {
   public:
    Listener(World* world, JobId id) : world_(world), id_(id) {}
    void OnProgress(const JobProgress& progress) override {
      Asked& asked = world_->asked_.at(id_);
      world_->Expect(progress.steps_done > asked.steps_done, "progress does not advance");
      world_->Expect(progress.steps_done <= asked.steps_total(), "more steps than there are");
      asked.steps_done = progress.steps_done;
    }
    void OnSample(int index, absl::StatusOr<SampleResult> result) override {
      world_->Answered(id_, index, result);
    }
    void OnDone(const JobMetrics&) override { world_->Done(id_); }

   private:
    World* world_;
    JobId id_;
  };

  int Draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool Chance(double p) { return std::bernoulli_distribution(p)(random_); }

  void Ask(int number) {
    const JobId id{static_cast<uint64_t>(number)};
    auto plan = std::make_shared<SamplerPlan>();
    for (int step = Draw(1, 6); step > 0; --step) {
      plan->steps.push_back(
          {.timestep = static_cast<float>(10 * step), .prediction = static_cast<float>(number)});
    }
    const int side = options_.mixed_sizes && Chance(0.3) ? 4 : 8;
    Asked asked;
    asked.arrival = clock_.Now() + absl::Milliseconds(Draw(0, 400));
    asked.job = {
        .id = id,
        .source = std::make_shared<Image>(Image{1, 1, {static_cast<uint8_t>(number), 0, 0}}),
        .plan = plan,
        .sample_count = Draw(1, 4),
        .seed = static_cast<uint64_t>(number) * 1000,
        .guidance_scale = Chance(0.3) ? 1.0f : 3.0f,
        .latent_width = side,
        .latent_height = side,
        .priority = Chance(0.3) ? Priority::kBatch : Priority::kInteractive,
        .listener = std::make_shared<Listener>(this, id)};
    if (Chance(0.4)) asked.job.deadline = asked.arrival + absl::Milliseconds(Draw(5, 600));
    if (Chance(0.2)) asked.cancel_at = asked.arrival + absl::Milliseconds(Draw(0, 200));
    if (options_.faults && Chance(0.2)) runner_->seeds_not_finite.insert(asked.job.seed);
    if (Chance(0.1)) runner_->seeds_unsafe.insert(asked.job.seed);
    arrivals_.emplace_back(asked.arrival, id);
    std::sort(arrivals_.begin(), arrivals_.end());
    asked_.emplace(id, std::move(asked));
  }

  void SendWhatIsDue() {
    while (next_ < arrivals_.size() && arrivals_[next_].first <= clock_.Now()) {
      Asked& asked = asked_.at(arrivals_[next_++].second);
      asked.arrival = clock_.Now();
      const absl::Status sent = engine_->Submit(asked.job);
      if (!sent.ok()) {
        Expect(devices_lost_ > 0, "a job is refused while the device is there");
        for (int i = 0; i < asked.job.sample_count; ++i) asked.answers[i] = sent;
        asked.done = true;
      }
    }
    for (auto& [id, asked] : asked_) {
      if (!asked.cancel_at || asked.cancel_sent || *asked.cancel_at > clock_.Now()) continue;
      engine_->Cancel(id, absl::CancelledError("the caller left"));
      asked.cancel_sent = asked.arrival <= clock_.Now();
    }
  }

  // A device on which rows are free: nobody is late for company, and the efficient row count is the
  // greatest allowed one.
  void Spend(absl::string_view verb) {
    clock_.Advance(verb == "Denoise" ? kStep : absl::Milliseconds(1));
  }

  absl::Status Fault(absl::string_view verb, int rows) {
    if (options_.device_loss && Chance(0.03)) return absl::DataLossError("planted");
    if (!options_.faults) return absl::OkStatus();
    absl::Status status;
    if (rows > 4 && Chance(0.05)) status = absl::ResourceExhaustedError("planted");
    if (Chance(0.01)) status = absl::InternalError(absl::StrCat("planted in ", verb));
    if (!status.ok()) failures_in_tick_ = true;
    return status;
  }

  void CheckCall(absl::Span<const StepRow> rows) {
    std::set<JobId> jobs;
    for (const StepRow& row : rows) {
      const Asked& asked = asked_.at(row.job);
      jobs.insert(row.job);
      Expect(asked.job.deadline > tick_begin_, "a sample runs after its deadline");
      Expect(!asked.cancel_sent, "a sample runs after its cancellation");
      Expect(!asked.done, "a sample of a job runs that has ended");
    }
    if (std::exchange(called_, true)) return;  // the second half of a split call
    const Asked* most_urgent = nullptr;
    for (const auto& [id, asked] : asked_) {
      if (!IsRunnable(asked) || !IsSurelyInTime(asked)) continue;
      if (most_urgent == nullptr ||
          asked.effective_deadline() < most_urgent->effective_deadline()) {
        most_urgent = &asked;
      }
    }
    if (most_urgent == nullptr || failures_in_tick_ || running_after_tick_ >= kMaxSlots - 4) return;
    const auto urgent = most_urgent->effective_deadline();
    Expect(std::any_of(jobs.begin(), jobs.end(),
                       [&](JobId id) { return asked_.at(id).effective_deadline() <= urgent; }),
           "the most urgent job is left out of a call");
  }

  bool IsRunnable(const Asked& asked) const {
    return asked.arrival <= tick_begin_ && !asked.done && !asked.cancel_sent &&
           asked.job.deadline > tick_begin_ && asked.answers.empty() &&
           asked.steps_done < asked.steps_total();
  }
  // Who cannot be in time any more has to wait, and who seems so: what a size takes that was never
  // measured is scaled from another, four times as large.
  bool IsSurelyInTime(const Asked& asked) const {
    const auto steps = static_cast<int>(asked.job.plan->steps.size());
    return tick_begin_ + 5 * (steps * kStep + absl::Milliseconds(20)) < asked.job.deadline;
  }

  void Answered(JobId id, int index, const absl::StatusOr<SampleResult>& result) {
    Asked& asked = asked_.at(id);
    Expect(asked.answers.emplace(index, result.status()).second, "a sample is answered twice");
    Expect(!asked.done, "a sample is answered after its job's end");
    if (!result.ok()) {
      ++report_.samples_ended_otherwise;
      failures_in_tick_ = true;
      CheckWhy(asked, result.status());
      return;
    }
    ++report_.samples_generated;
    const uint64_t seed = asked.job.seed + static_cast<uint64_t>(index);
    Expect(result->image.blocked() == runner_->seeds_unsafe.contains(seed),
           "the verdict is not the scores'");
    Expect(!runner_->seeds_not_finite.contains(seed) || asked.job.plan->steps.size() < 2,
           "a picture is shown that is not finite");
    if (result->image.blocked()) return;
    Expect(result->image.image() == FakeModelRunner::ExpectedPicture(asked.job, index),
           "a picture is not the one that it is alone");
  }

  void CheckWhy(const Asked& asked, const absl::Status& why) {
    switch (why.code()) {
      case absl::StatusCode::kCancelled:
        return Expect(asked.cancel_sent, "a sample is cancelled that nobody cancelled");
      case absl::StatusCode::kDeadlineExceeded:
        return Expect(asked.job.deadline <= clock_.Now(), "a sample expires before its deadline");
      case absl::StatusCode::kUnavailable:
        return Expect(devices_lost_ == 1, "the device is said to be lost, and is not");
      default:
        return Expect(options_.faults,
                      absl::StrCat("a sample fails for nothing: ", why.ToString()));
    }
  }

  void Done(JobId id) {
    Asked& asked = asked_.at(id);
    Expect(!asked.done, "a job ends twice");
    Expect(static_cast<int>(asked.answers.size()) == asked.job.sample_count,
           "a job ends with samples unanswered");
    asked.done = true;
  }

  void CheckEnd() {
    for (const auto& [id, asked] : asked_) {
      Expect(asked.done, absl::StrCat("job ", static_cast<uint64_t>(id), " was never answered"));
    }
    Expect(engine_->status().samples_running == 0, "a slot was not given back");
    Expect(engine_->status().samples_waiting == 0, "a sample still waits");
    Expect(runner_->embedded_jobs() == 0, "an embedding was not given back");
  }

  void Expect(bool condition, absl::string_view breach) {
    if (condition || report_.breach) return;
    report_.breach =
        absl::StrCat("seed ", options_.seed, ", tick ", report_.ticks, ", ",
                     absl::FormatDuration(clock_.Now() - absl::UnixEpoch()), ": ", breach);
  }

  const SimulationOptions options_;
  std::mt19937_64 random_;
  SimulatedClock clock_;
  FakeModelRunner* runner_ = nullptr;
  std::map<JobId, Asked> asked_;
  std::vector<std::pair<absl::Time, JobId>> arrivals_;
  size_t next_ = 0;
  absl::Time tick_begin_;
  bool called_ = false;
  bool failures_in_tick_ = false;
  int running_after_tick_ = 0;
  int max_rows_ = kMaxRows;
  int devices_lost_ = 0;
  SimulationReport report_;
  std::unique_ptr<Engine> engine_;  // last: its destructor still answers
};

}  // namespace

SimulationReport Simulate(const SimulationOptions& options) { return World(options).Run(); }

}  // namespace image_variations
