#include "tests/support/simulator.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/engine/engine.h"
#include "pipeline/engine/row_buckets.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"
#include "tests/support/simulated_requests.h"

namespace image_variations {
namespace {

constexpr int kMaxRows = 8;
constexpr int kMaxSlots = 12;
constexpr int kMaxTicks = 20'000;
constexpr int kUnlimited = std::numeric_limits<int>::max();
constexpr absl::Duration kStep = absl::Milliseconds(20);
// In costly worlds.
constexpr absl::Duration kEmbedding = absl::Milliseconds(8);
constexpr absl::Duration kDecode = absl::Milliseconds(12);
constexpr absl::Duration kRounding = absl::Microseconds(1);
constexpr int kMostOvertaking = 5;  // jobs of the flood

class World final : public EngineObserver {
 public:
  explicit World(const SimulationOptions& options) : options_(options), random_(options.seed) {
    ModelInfo info = FakeModelRunner::DefaultInfo();
    info.row_buckets = options.row_buckets;
    auto runner = std::make_unique<FakeModelRunner>(std::move(info));
    runner_ = runner.get();
    runner_->on_call = [this](absl::string_view verb, int rows) { Spend(verb, rows); };
    runner_->on_denoise = [this](absl::Span<const StepRow> rows) { CheckCall(rows); };
    runner_->fault = [this](absl::string_view verb, int rows) { return Fault(verb, rows); };
    EngineOptions engine_options;
    engine_options.batcher.max_slots = kMaxSlots;
    engine_options.batcher.max_rows = kMaxRows;
    engine_options.batcher.max_decodes_per_tick = 2;
    engine_options.batcher.max_waiting_samples = options.faults ? 20 : 1000;
    engine_options.safety = options.previews ? SafetyMode::kOff : SafetyMode::kRequired;
    engine_options.warm_up_budget = absl::Hours(1);
    base_ = std::array{0.05, 0.28, 0.65}[options.seed % 3];
    engine_ = std::make_unique<Engine>(engine_options, std::move(runner), clock_, *this);
    if (options.costly) Expect(engine_->WarmUp().ok(), "the warm-up fails");
    is_warm_ = true;
    for (int i = 0; i < options.jobs; ++i) Ask(i + 1);
  }

  SimulationReport Run() {
    for (; report_.ticks < kMaxTicks && !report_.breach; ++report_.ticks) {
      SendWhatIsDue();
      tick_begin_ = clock_.Now();
      called_ = false;
      call_.clear();
      answered_.clear();
      const bool busy = engine_->RunTick();
      if (called_) rows_without_memory_ = std::exchange(failed_rows_, kUnlimited);
      if (options_.costly) CheckTheMostUrgent();
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
    const bool row_is_free = tick.unet_rows + 2 <= RowsWithin(options_.row_buckets, max_rows_);
    Expect(options_.mixed_sizes || options_.costly || failures_in_tick_ || !could_take_more ||
               !row_is_free,
           "a row stays free while a sample waits");
    failures_in_tick_ = false;
    running_after_tick_ = tick.running_samples;
  }
  void OnOutOfMemory(int rows) override {
    max_rows_ = std::max(1, std::min(max_rows_, rows / 2));
    failed_rows_ = rows;
  }
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
    void OnPreview(int index, int step, CheckedImage picture) override {
      world_->Previewed(id_, index, step, picture);
    }
    void OnDone(const JobMetrics&) override { world_->Done(id_); }

   private:
    World* world_;
    JobId id_;
  };

  bool Chance(double p) { return std::bernoulli_distribution(p)(random_); }

  void Ask(int number) {
    Asked asked = DrawRequest(options_, number, clock_.Now(), random_);
    const JobId id = asked.job.id;
    asked.job.listener = std::make_shared<Listener>(this, id);
    if (asked.is_not_finite) runner_->seeds_not_finite.insert(asked.job.seed);
    if (asked.is_unsafe) runner_->seeds_unsafe.insert(asked.job.seed);
    arrivals_.emplace_back(asked.arrival, id);
    std::sort(arrivals_.begin(), arrivals_.end());
    asked_.emplace(id, std::move(asked));
  }

  void SendWhatIsDue() {
    while (next_ < arrivals_.size() && arrivals_[next_].first <= clock_.Now()) {
      Asked& asked = asked_.at(arrivals_[next_++].second);
      asked.arrival = clock_.Now();
      asked.order = static_cast<int>(next_);
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
  void Spend(absl::string_view verb, int rows) {
    if (verb == "Denoise") {
      const bool has_memory = options_.mixed_sizes || rows < rows_without_memory_;
      Expect(has_memory, "a call is as large again as one without memory");
    }
    if (!options_.costly) {
      const bool is_free = verb == "EmbedImage";  // else it might wait, and leave its rows free
      clock_.Advance(verb == "Denoise" ? kStep : absl::Milliseconds(is_free ? 0 : 1));
    } else if (verb == "Denoise") {
      clock_.Advance(StepOf(rows));
    } else if (verb == "EmbedImage") {
      clock_.Advance(kEmbedding * rows / TowerRunsOf(Preprocessing::kModelCard));
    } else if (verb == "DecodeLatents") {
      clock_.Advance(kDecode * rows / (is_warm_ ? 1 : 16));  // the warm-up's picture is small
    }
  }
  absl::Duration StepOf(int rows) const { return kStep * (base_ + (1 - base_) * rows); }

  absl::Status Fault(absl::string_view verb, int rows) {
    if (!is_warm_) return absl::OkStatus();
    if (options_.device_loss && Chance(0.03)) return absl::DataLossError("planted");
    if (!options_.faults) return absl::OkStatus();
    absl::Status status;
    if (rows > 4 && Chance(0.05)) status = absl::ResourceExhaustedError("planted");
    if (Chance(0.01)) status = absl::InternalError(absl::StrCat("planted in ", verb));
    if (!status.ok()) failures_in_tick_ = true;
    return status;
  }

  void CheckCall(absl::Span<const StepRow> rows) {
    if (!is_warm_) return;
    std::set<JobId> jobs;
    for (const StepRow& row : rows) {
      Asked& asked = asked_.at(row.job);
      if (asked.embedded_in < 0) asked.embedded_in = report_.ticks;
      jobs.insert(row.job);
      call_.push_back(row);
      Expect(asked.job.deadline > tick_begin_, "a sample runs after its deadline");
      Expect(!asked.cancel_sent, "a sample runs after its cancellation");
      Expect(!asked.done, "a sample of a job runs that has ended");
    }
    if (std::exchange(called_, true)) return;  // the second half of a split call
    if (options_.flood) return CheckNobodyStandsBehindTheFlood(jobs);
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

  void CheckNobodyStandsBehindTheFlood(const std::set<JobId>& jobs) {
    int begun = 0;
    for (const JobId id : jobs) {
      Asked& asked = asked_.at(id);
      if (!std::exchange(asked.has_begun, true) && asked.is_flood) ++begun;
    }
    for (auto& [id, asked] : asked_) {
      if (asked.is_flood || asked.has_begun || asked.arrival > tick_begin_) continue;
      asked.overtaken_by += begun;
      Expect(asked.overtaken_by <= kMostOvertaking, "somebody stands behind the flood");
    }
  }

  // Who of the call comes first and would be in time alone still is after the tick, but for the
  // pictures of those who come before it.
  void CheckTheMostUrgent() {
    const StepRow* first = nullptr;
    for (const StepRow& row : call_) {
      const bool is_before = first == nullptr || asked_.at(row.job).Before(asked_.at(first->job));
      if (is_before && tick_begin_ + TimeAlone(row, 0) <= asked_.at(row.job).job.deadline)
        first = &row;
    }
    if (first == nullptr) return;
    const Asked& asked = asked_.at(first->job);
    absl::Duration others;
    for (const JobId id : answered_) {
      if (asked_.at(id).Before(asked) || (id == first->job && !asked.done)) others += kDecode;
    }
    if (tick_begin_ + TimeAlone(*first, 0) + others > asked.job.deadline) return;  // for them
    const absl::Duration rest = asked.done ? absl::ZeroDuration() : TimeAlone(*first, 1);
    Expect(clock_.Now() + rest - others <= asked.job.deadline + kRounding,
           "the most urgent sample is late for what else is in its tick");
  }

  // Of a sample of the running call, from its plan on, after so many steps of it.
  absl::Duration TimeAlone(const StepRow& row, int steps_done) const {
    const Asked& asked = asked_.at(row.job);
    const auto step = static_cast<int>(row.step - asked.job.plan->steps.data());
    const int left = static_cast<int>(asked.job.plan->steps.size()) - step - steps_done;
    const bool embeds = steps_done == 0 && asked.embedded_in == report_.ticks;
    return (embeds ? kEmbedding : absl::ZeroDuration()) +
           left * StepOf(RowsPerStep(row.guidance_scale)) + kDecode;
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
    if (result.ok()) answered_.push_back(id);
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
    const bool is_unsafe = runner_->seeds_unsafe.contains(seed) && !options_.previews;
    Expect(result->image.blocked() == is_unsafe, "the verdict is not the scores'");
    CheckPreviews(asked, index);
    Expect(!runner_->seeds_not_finite.contains(seed) || asked.job.plan->steps.size() < 2,
           "a picture is shown that is not finite");
    if (result->image.blocked()) return;
    Expect(result->image.image() == FakeModelRunner::ExpectedPicture(asked.job, index),
           "a picture is not the one that it is alone");
  }

  void Previewed(JobId id, int index, int step, const CheckedImage& picture) {
    Asked& asked = asked_.at(id);
    const int interval = asked.job.preview_interval_steps;
    Expect(options_.previews, "a preview is shown where pictures are checked");
    Expect(interval > 0 && step == ++asked.previews[index] * interval,
           "a preview does not come after its interval");
    if (picture.blocked()) return Expect(false, "a preview is blocked");
    Expect(picture.image().rgb[0] == step, "a preview is not that of its step");
  }

  void CheckPreviews(const Asked& asked, int index) {
    const int interval = asked.job.preview_interval_steps;
    if (!options_.previews || interval == 0) return;
    const auto found = asked.previews.find(index);
    const int shown = found == asked.previews.end() ? 0 : found->second;
    Expect(shown == (static_cast<int>(asked.job.plan->steps.size()) - 1) / interval,
           "a preview is left out");
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
  bool is_warm_ = false;
  double base_ = 0;            // of a call's cost, in costly worlds
  bool called_ = false;        // in the running tick
  std::vector<StepRow> call_;  // of the running tick
  std::vector<JobId> answered_;
  bool failures_in_tick_ = false;
  int running_after_tick_ = 0;
  int max_rows_ = kMaxRows;
  int failed_rows_ = kUnlimited;          // for want of memory, in the running tick ...
  int rows_without_memory_ = kUnlimited;  // ... and in the one before
  int devices_lost_ = 0;
  SimulationReport report_;
  std::unique_ptr<Engine> engine_;  // last: its destructor still answers
};

}  // namespace

SimulationReport Simulate(const SimulationOptions& options) { return World(options).Run(); }

}  // namespace image_variations
