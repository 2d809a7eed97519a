#include "pipeline/engine/forecast.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace image_variations {
namespace {

constexpr int kExactEndings = 256;
constexpr size_t kLookAhead = 48;  // samples among which the next call is chosen
constexpr double kNotBegun = -1;
constexpr int kNarrowSteps = 8;  // after which a call that is not full may be wider

// One playing of a future. The samples at work and next in line are in a short window.
class Playing {
 public:
  Playing(Forecast& forecast, absl::Span<const ForecastSamples> present,
          absl::Span<const ForecastSamples> expected)
      : forecast_(forecast), present_(present), expected_(expected) {
    answer_.resize(present.size() + expected.size(), {.begin = kNotBegun});
  }

  std::vector<ForecastTimes> Run() {
    while (endings_ < kExactEndings) {
      Fill();
      if (!window_.empty()) {
        RunCalls();
      } else if (next_expected_ < expected_.size()) {
        clock_ = std::max(clock_, expected_[next_expected_].arrival);
      } else {
        return std::move(answer_);
      }
    }
    RunTheRest();
    return std::move(answer_);
  }

 private:
  struct Playable {
    const ForecastSamples* of;
    size_t index;  // in the answer
    int steps_left;
    bool needs_embedding;
    const SampleTimes* times;

    Candidate AsCandidate(double clock) const {
      return {of->rows, steps_left, needs_embedding, of->deadline - clock};
    }
  };

  void Fill() {
    while (window_.size() < kLookAhead && next_present_ < present_.size()) {
      const ForecastSamples& samples = present_[next_present_];
      Insert(samples, next_present_, next_of_present_);
      if (++next_of_present_ < samples.count) continue;
      ++next_present_;
      next_of_present_ = 0;
    }
    while (next_expected_ < expected_.size() && expected_[next_expected_].arrival <= clock_) {
      const ForecastSamples& samples = expected_[next_expected_];
      for (int i = 0; i < samples.count; ++i) Insert(samples, present_.size() + next_expected_, i);
      ++next_expected_;
    }
  }

  void Insert(const ForecastSamples& samples, size_t index, int number) {
    const Playable playable{&samples, index, samples.steps_left,
                            samples.needs_embedding && number == 0, &TimesOf(samples.size)};
    if (samples.steps_left == 0) {
      Begin(index);
      End(playable);
      return;
    }
    const auto place = std::upper_bound(
        window_.begin(), window_.end(), samples.place,
        [](double value, const Playable& other) { return value < other.of->place; });
    window_.insert(place, playable);
  }

  const SampleTimes& TimesOf(LatentSize size) {
    if (latest_times_ == nullptr || size != latest_size_) {
      latest_times_ = &forecast_.times(size);
      latest_size_ = size;
    }
    return *latest_times_;
  }

  // Calls of the same samples, until one of them ends or the choice may change.
  void RunCalls() {
    Choose();
    const SampleTimes& times = *window_[chosen_[0]].times;
    int rows = 0;
    int steps = window_[chosen_[0]].steps_left;
    for (const size_t i : chosen_) {
      Playable& playable = window_[i];
      if (std::exchange(playable.needs_embedding, false)) clock_ += times.embedding;
      rows += playable.of->rows;
      steps = std::min(steps, playable.steps_left);
    }
    const double step = times.step[static_cast<size_t>(rows)];
    if (choice_was_narrow_) steps = std::min(steps, kNarrowSteps);
    if (somebody_was_deferred_) steps = 1;
    if (next_expected_ < expected_.size() && step > 0) {
      const double until = std::ceil((expected_[next_expected_].arrival - clock_) / step);
      steps = static_cast<int>(std::clamp(until, 1.0, static_cast<double>(steps)));
    }
    for (const size_t i : chosen_) Begin(window_[i].index);
    clock_ += steps * step;
    for (const size_t i : chosen_) {
      window_[i].steps_left -= steps;
      if (window_[i].steps_left == 0) End(window_[i]);
    }
    std::erase_if(window_, [](const Playable& playable) { return playable.steps_left == 0; });
  }

  // Who takes the next call: as StepBatcher::ChooseRows.
  void Choose() {
    chosen_.clear();
    std::optional<CallChoice> choice;
    LatentSize size;
    bool some_are_lost = false;
    const auto offer = [&](bool lost) {
      for (size_t i = 0; i < window_.size() && !(choice && choice->rows_left() == 0); ++i) {
        const Playable& playable = window_[i];
        if (choice && playable.of->size != size) continue;
        const Candidate candidate = playable.AsCandidate(clock_);
        if (candidate.is_lost(*playable.times) != lost) {
          some_are_lost = true;
          continue;
        }
        if (!choice) {
          size = playable.of->size;
          choice.emplace(*playable.times, static_cast<int>(playable.times->step.size()) - 1,
                         candidate.rows);
        }
        if (choice->Take(candidate)) chosen_.push_back(i);
      }
    };
    offer(false);
    if (some_are_lost) offer(true);
    const int together = choice->Together();
    choice_was_narrow_ = together < static_cast<int>(chosen_.size());
    somebody_was_deferred_ = choice->has_deferred();
    chosen_.resize(static_cast<size_t>(together));
  }

  void Begin(size_t index) {
    double& begin = answer_[index].begin;
    if (begin == kNotBegun) begin = clock_;
  }

  void End(const Playable& playable) {
    clock_ += playable.times->decode;
    answer_[playable.index].end = clock_;
    ++endings_;
  }

  void RunTheRest() {
    for (const Playable& playable : window_) RunInTurn(playable, 1);
    for (; next_present_ < present_.size(); ++next_present_) {
      const ForecastSamples& samples = present_[next_present_];
      RunInTurn({&samples, next_present_, samples.steps_left,
                 samples.needs_embedding && next_of_present_ == 0, &TimesOf(samples.size)},
                samples.count - next_of_present_);
      next_of_present_ = 0;
    }
    for (; next_expected_ < expected_.size(); ++next_expected_) {
      const ForecastSamples& samples = expected_[next_expected_];
      RunInTurn({&samples, present_.size() + next_expected_, samples.steps_left,
                 samples.needs_embedding, &TimesOf(samples.size)},
                samples.count);
    }
  }

  void RunInTurn(const Playable& playable, int count) {
    const SampleTimes& times = *playable.times;
    clock_ = std::max(clock_, playable.of->arrival);
    Begin(playable.index);
    clock_ += (playable.needs_embedding ? times.embedding : 0) +
              count * (playable.steps_left * playable.of->rows * times.per_row() + times.decode);
    answer_[playable.index].end = clock_;
  }

  Forecast& forecast_;
  const absl::Span<const ForecastSamples> present_, expected_;
  std::vector<ForecastTimes> answer_;
  std::vector<Playable> window_;        // in order of place
  std::vector<size_t> chosen_;          // of the window, for the next call ...
  bool choice_was_narrow_ = false;      // ... fewer than its rows would take, ...
  bool somebody_was_deferred_ = false;  // ... or others, but for their embedding
  double clock_ = 0;
  int endings_ = 0;
  size_t next_present_ = 0, next_expected_ = 0;
  int next_of_present_ = 0;  // sample of the next present ones
  LatentSize latest_size_;
  const SampleTimes* latest_times_ = nullptr;
};

}  // namespace

std::vector<ForecastTimes> Forecast::Play(absl::Span<const ForecastSamples> present,
                                          absl::Span<const ForecastSamples> expected) {
  return Playing(*this, present, expected).Run();
}

const SampleTimes& Forecast::times(LatentSize size) {
  const auto found = times_.find(size.area());
  if (found != times_.end()) return found->second;
  return times_.try_emplace(size.area(), cost_, size.area(), max_rows_).first->second;
}

}  // namespace image_variations
