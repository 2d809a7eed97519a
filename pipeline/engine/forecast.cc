#include "pipeline/engine/forecast.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace image_variations {
namespace {

constexpr int kExactEndings = 256;
constexpr size_t kLookAhead = 48;  // samples among which the next call is chosen
constexpr int kNarrowSteps = 8;    // after which a call that is not full may be wider

// One playing of a future. The samples at work and next in line are in a short window.
class Playing {
 public:
  Playing(Forecast& forecast, absl::Span<const ForecastSample> present,
          absl::Span<const ForecastSample> expected)
      : forecast_(forecast), present_(present), expected_(expected) {
    answer_.resize(present.size() + expected.size());
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
    const ForecastSample* sample;
    size_t index;  // in the answer
    int steps_left;
    bool needs_embedding;
    const SampleTimes* times;

    Candidate AsCandidate(double clock) const {
      return {sample->rows, steps_left, needs_embedding, sample->deadline - clock};
    }
  };

  void Fill() {
    while (window_.size() < kLookAhead && next_present_ < present_.size()) {
      Insert(present_[next_present_], next_present_);
      ++next_present_;
    }
    while (next_expected_ < expected_.size() && expected_[next_expected_].arrival <= clock_) {
      Insert(expected_[next_expected_], present_.size() + next_expected_);
      ++next_expected_;
    }
  }

  void Insert(const ForecastSample& sample, size_t index) {
    const Playable playable{&sample, index, sample.steps_left, sample.needs_embedding,
                            &TimesOf(sample.size)};
    if (sample.steps_left == 0) {
      End(playable);
      return;
    }
    answer_[index].begin = -1;
    const auto place = std::upper_bound(
        window_.begin(), window_.end(), sample.place,
        [](double value, const Playable& other) { return value < other.sample->place; });
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
      rows += playable.sample->rows;
      steps = std::min(steps, playable.steps_left);
    }
    const double step = times.step[static_cast<size_t>(rows)];
    if (choice_was_narrow_) steps = std::min(steps, kNarrowSteps);
    if (somebody_was_deferred_) steps = 1;
    if (next_expected_ < expected_.size() && step > 0) {
      const double until = std::ceil((expected_[next_expected_].arrival - clock_) / step);
      steps = static_cast<int>(std::clamp(until, 1.0, static_cast<double>(steps)));
    }
    for (const size_t i : chosen_) {
      ForecastTimes& begun = answer_[window_[i].index];
      if (begun.begin < 0) begun.begin = clock_;
    }
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
    for (const bool lost : {false, true}) {
      for (size_t i = 0; i < window_.size(); ++i) {
        const Playable& playable = window_[i];
        if (choice && (playable.sample->size != size || choice->rows_left() == 0)) continue;
        const Candidate candidate = playable.AsCandidate(clock_);
        if (candidate.is_lost(*playable.times) != lost) continue;
        if (!choice) {
          size = playable.sample->size;
          choice.emplace(*playable.times, static_cast<int>(playable.times->step.size()) - 1,
                         candidate.rows);
        }
        if (choice->Take(candidate)) chosen_.push_back(i);
      }
    }
    const int together = choice->Together();
    choice_was_narrow_ = together < static_cast<int>(chosen_.size());
    somebody_was_deferred_ = choice->has_deferred();
    chosen_.resize(static_cast<size_t>(together));
  }

  void End(const Playable& playable) {
    clock_ += playable.times->decode;
    answer_[playable.index].end = clock_;
    ++endings_;
  }

  void RunTheRest() {
    for (const Playable& playable : window_) RunInTurn(*playable.sample, playable);
    for (; next_present_ < present_.size(); ++next_present_) {
      const ForecastSample& sample = present_[next_present_];
      RunInTurn(sample, {&sample, next_present_, sample.steps_left, sample.needs_embedding,
                         &TimesOf(sample.size)});
    }
    for (; next_expected_ < expected_.size(); ++next_expected_) {
      const ForecastSample& sample = expected_[next_expected_];
      RunInTurn(sample, {&sample, present_.size() + next_expected_, sample.steps_left,
                         sample.needs_embedding, &TimesOf(sample.size)});
    }
  }

  void RunInTurn(const ForecastSample& sample, const Playable& playable) {
    const SampleTimes& times = *playable.times;
    clock_ = std::max(clock_, sample.arrival);
    ForecastTimes& times_of_sample = answer_[playable.index];
    if (playable.steps_left == sample.steps_left) times_of_sample.begin = clock_;
    clock_ += (playable.needs_embedding ? times.embedding : 0) +
              playable.steps_left * sample.rows * times.per_row() + times.decode;
    times_of_sample.end = clock_;
  }

  Forecast& forecast_;
  const absl::Span<const ForecastSample> present_, expected_;
  std::vector<ForecastTimes> answer_;
  std::vector<Playable> window_;        // in order of place
  std::vector<size_t> chosen_;          // of the window, for the next call ...
  bool choice_was_narrow_ = false;      // ... fewer than its rows would take, ...
  bool somebody_was_deferred_ = false;  // ... or others, but for their embedding
  double clock_ = 0;
  int endings_ = 0;
  size_t next_present_ = 0, next_expected_ = 0;
  LatentSize latest_size_;
  const SampleTimes* latest_times_ = nullptr;
};

}  // namespace

std::vector<ForecastTimes> Forecast::Play(absl::Span<const ForecastSample> present,
                                          absl::Span<const ForecastSample> expected) {
  return Playing(*this, present, expected).Run();
}

const SampleTimes& Forecast::times(LatentSize size) {
  const auto found = times_.find(size.area());
  if (found != times_.end()) return found->second;
  return times_.try_emplace(size.area(), cost_, size.area(), max_rows_).first->second;
}

}  // namespace image_variations
