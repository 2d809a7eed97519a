#include "pipeline/engine/future.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace image_variations {
namespace {

constexpr int kExactEndings = 64;
constexpr size_t kLookAhead = 48;  // samples among which the next call is chosen
static_assert(Future::kNearSamples >= kExactEndings + static_cast<int>(kLookAhead));
constexpr double kNotBegun = -1;
constexpr int kNarrowSteps = 8;  // after which a call that is not full may be wider

}  // namespace

Future::Future(Forecast& forecast, absl::Span<const ForecastSamples> near,
               absl::Span<const ForecastSamples> expected)
    : forecast_(forecast), near_(near), expected_(expected) {
  times_.resize(near.size() + expected.size(), {.begin = kNotBegun});
  window_.reserve(kLookAhead);
  PlayEndings();
  RunNear();
}

void Future::RunExpected() {
  for (; next_expected_ < expected_.size(); ++next_expected_) {
    const ForecastSamples& samples = expected_[next_expected_];
    RunInTurn({&samples, near_.size() + next_expected_, samples.steps_left, samples.needs_embedding,
               &TimesOf(samples.size)},
              samples.count);
  }
}

void Future::PlayEndings() {
  while (endings_ < kExactEndings) {
    Fill();
    if (!window_.empty()) {
      RunCalls();
    } else if (next_expected_ < expected_.size()) {
      clock_ = std::max(clock_, expected_[next_expected_].arrival);
    } else {
      return;
    }
  }
}

void Future::Fill() {
  while (window_.size() < kLookAhead && next_near_ < near_.size()) {
    const ForecastSamples& samples = near_[next_near_];
    Insert(samples, next_near_, next_of_near_);
    if (++next_of_near_ < samples.count) continue;
    ++next_near_;
    next_of_near_ = 0;
  }
  while (next_expected_ < expected_.size() && expected_[next_expected_].arrival <= clock_) {
    const ForecastSamples& samples = expected_[next_expected_];
    for (int i = 0; i < samples.count; ++i) Insert(samples, near_.size() + next_expected_, i);
    ++next_expected_;
  }
}

void Future::Insert(const ForecastSamples& samples, size_t index, int number) {
  const Playable playable{&samples, index, samples.steps_left,
                          samples.needs_embedding && number == 0, &TimesOf(samples.size)};
  if (samples.steps_left == 0) {
    Begin(index);
    End(playable);
    return;
  }
  const auto place =
      std::upper_bound(window_.begin(), window_.end(), samples.place,
                       [](double value, const Playable& other) { return value < other.of->place; });
  window_.insert(place, playable);
}

const SampleTimes& Future::TimesOf(LatentSize size) {
  if (latest_times_ == nullptr || size != latest_size_) {
    latest_times_ = &forecast_.times(size);
    latest_size_ = size;
  }
  return *latest_times_;
}

// Calls of the same samples, until one of them ends or the choice may change.
void Future::RunCalls() {
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
  const int endings = endings_;
  for (const size_t i : chosen_) {
    window_[i].steps_left -= steps;
    if (window_[i].steps_left == 0) End(window_[i]);
  }
  if (endings_ == endings) return;
  std::erase_if(window_, [](const Playable& playable) { return playable.steps_left == 0; });
}

// Who takes the next call: as StepBatcher::ChooseRows.
void Future::Choose() {
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

void Future::Begin(size_t index) {
  double& begin = times_[index].begin;
  if (begin == kNotBegun) begin = clock_;
}

void Future::End(const Playable& playable) {
  clock_ += playable.times->decode;
  times_[playable.index].end = clock_;
  ++endings_;
}

// Those that were begun, or taken into the window, and are not done: without any choice.
void Future::RunNear() {
  for (const Playable& playable : window_) RunInTurn(playable, 1);
  for (; next_near_ < near_.size(); ++next_near_) {
    const ForecastSamples& samples = near_[next_near_];
    RunInTurn({&samples, next_near_, samples.steps_left,
               samples.needs_embedding && next_of_near_ == 0, &TimesOf(samples.size)},
              samples.count - next_of_near_);
    next_of_near_ = 0;
  }
}

void Future::RunInTurn(const Playable& playable, int count) {
  const SampleTimes& times = *playable.times;
  clock_ = std::max(clock_, playable.of->arrival);
  Begin(playable.index);
  clock_ += (playable.needs_embedding ? times.embedding : 0) +
            count * (playable.steps_left * playable.of->rows * times.per_row + times.decode);
  times_[playable.index].end = clock_;
}

}  // namespace image_variations
