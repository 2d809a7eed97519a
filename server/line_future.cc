#include "server/line_future.h"

#include <algorithm>

#include "absl/time/time.h"
#include "pipeline/engine/future.h"

namespace image_variations {
namespace {

// Groups of like samples, counted through those near, then those expected.
struct Groups {
  size_t first = 0, end = 0;
};

class LinePlaying {
 public:
  LinePlaying(StandingLine& line, const Newcomer* newcomer, absl::Span<const RetryPromise> comers)
      : line_(line), newcomer_(newcomer), comers_(comers), margin_(line.forecast().margin()) {}

  LineFuture Play(std::vector<double>* ends) {
    AskOfNear();
    AskOfComers();
    Future future(line_.forecast(), near_, expected_);
    for (size_t i = 0; i < near_entries_.size(); ++i) {
      HearOfEntry(i, EndOf(near_entries_[i], future), ends);
    }
    RunFar(&future, ends);
    future.RunExpected();
    for (size_t i = 0; i < comers_.size(); ++i) HearOfComer(i, EndOf(of_comers_[i], future));
    if (newcomer_ != nullptr) HearOfNewcomer(future);
    return std::move(heard_);
  }

 private:
  bool is_near_full() const { return near_samples_ >= Future::kNearSamples; }
  bool NewcomerComesBefore(const LineEntry& entry) const {
    return newcomer_->place < line_.TimeUntil(entry.place.time);
  }
  // It gives way to those before it in every call, so it makes none of them late.
  bool NewcomerGoesBehind(double place) const {
    return newcomer_ != nullptr && newcomer_->delay + newcomer_->place >= place;
  }
  double TimeUntil(const RetryPromise& comer) const {
    return std::max(0.0, absl::ToDoubleSeconds(comer.at - line_.now()));
  }

  static double EndOf(const Groups& groups, const Future& future) {
    double end = 0;
    for (size_t i = groups.first; i < groups.end; ++i) end = std::max(end, future.times()[i].end);
    return end;
  }

  // A request's samples as the forecast takes them: first those that began, if there are any, then
  // the others.
  Groups Ask(const RequestShape& shape, int begun, int begun_steps, int fresh,
             ForecastSamples common, std::vector<ForecastSamples>* samples) {
    const size_t before = samples == &expected_ ? near_.size() : 0;
    const size_t first = before + samples->size();
    common.size = shape.size;
    common.rows = shape.rows;
    common.steps_left = begun_steps;
    common.count = begun;
    if (begun > 0) samples->push_back(common);
    common.steps_left = shape.steps;
    common.needs_embedding = begun == 0 && fresh == shape.samples;
    common.count = fresh;
    if (fresh > 0) samples->push_back(common);
    return {first, before + samples->size()};
  }

  // The first in line, and the newcomer if it comes at once and among them.
  void AskOfNear() {
    near_.reserve(Future::kNearSamples);
    near_entries_.reserve(Future::kNearSamples);
    bool is_open = newcomer_ != nullptr && newcomer_->delay == 0;
    const auto ask_of_newcomer = [&] {
      of_newcomer_ = Ask(newcomer_->shape, 0, 0, newcomer_->shape.samples,
                         {.place = newcomer_->place, .deadline = newcomer_->deadline}, &near_);
      near_samples_ += newcomer_->shape.samples;
      is_open = false;
    };
    for (const LineEntry& entry : line_.entries()) {
      if (is_near_full()) break;
      if (is_open && NewcomerComesBefore(entry)) ask_of_newcomer();
      const int begun = entry.samples_open - entry.samples_fresh;
      near_entries_.push_back(Ask(
          entry.shape, begun, entry.begun_steps, entry.samples_fresh,
          {.place = line_.TimeUntil(entry.place.time), .deadline = line_.TimeUntil(entry.deadline)},
          &near_));
      near_samples_ += entry.samples_fresh + (entry.begun_steps > 0 ? begun : 0);
      if (is_open) heard_.samples_ahead += entry.samples_open;
    }
    newcomer_is_far_ = is_open && is_near_full();
    if (is_open && !newcomer_is_far_) ask_of_newcomer();
  }

  // Those who will come, and the newcomer if it does not come at once.
  void AskOfComers() {
    bool is_open = newcomer_ != nullptr && newcomer_->delay > 0;
    const auto ask = [&](const RequestShape& shape, double at, double place, double deadline) {
      return Ask(shape, 0, 0, shape.samples,
                 {.place = at + place, .deadline = at + deadline, .arrival = at}, &expected_);
    };
    const auto ask_of_newcomer = [&] {
      of_newcomer_ = ask(newcomer_->shape, newcomer_->delay, newcomer_->place, newcomer_->deadline);
      is_open = false;
    };
    for (const RetryPromise& comer : comers_) {
      const double at = TimeUntil(comer);
      if (is_open && newcomer_->delay < at) ask_of_newcomer();
      of_comers_.push_back(ask(comer.shape, at, absl::ToDoubleSeconds(comer.place),
                               absl::ToDoubleSeconds(comer.deadline)));
    }
    if (is_open) ask_of_newcomer();
  }

  // Those behind the near ones, and the newcomer if it is among them.
  void RunFar(Future* future, std::vector<double>* ends) {
    const size_t first = near_entries_.size(), size = line_.entries().size();
    const double begin = future->clock();
    size_t place = size;  // the newcomer comes before it
    double behind = begin + line_.Work(first, size);
    if (newcomer_is_far_) {
      place = first + PlaceAmong(line_.entries().subspan(first));
      for (size_t i = first; i < place; ++i) {
        heard_.samples_ahead += line_.entries()[i].samples_open;
      }
      heard_.start = begin + line_.Work(first, place);
      heard_.finish = behind = heard_.start + WorkOfNewcomer();
    }
    future->RunWork(behind + line_.Work(place, size) - begin);
    HearOfFar(first, place, begin, ends);
    HearOfFar(place, size, behind, ends);
  }

  // Of [first, end), which begin at `begin`: of all their ends, and of each that could be late.
  void HearOfFar(size_t first, size_t end, double begin, std::vector<double>* ends) {
    if (first == end) return;
    heard_.end = std::max(heard_.end, begin + line_.Work(first, end));
    for (size_t i = first; i < end; ++i) {
      if (ends == nullptr) i = line_.NextInDanger(i, begin + line_.Work(first, i));
      if (i >= end) return;
      const bool is_open = line_.entries()[i].samples_open > 0;
      HearOfEntry(i, is_open ? begin + line_.Work(first, i + 1) : 0, ends);
    }
  }

  size_t PlaceAmong(absl::Span<const LineEntry> entries) const {
    const auto is_before_it = [&](const LineEntry& entry) { return !NewcomerComesBefore(entry); };
    return static_cast<size_t>(std::ranges::partition_point(entries, is_before_it) -
                               entries.begin());
  }

  double WorkOfNewcomer() const {
    const RequestShape& shape = newcomer_->shape;
    return line_.forecast().times(shape.size).SecondsOf(shape.unet_rows(), shape.samples, 1);
  }

  void HearOfEntry(size_t number, double end, std::vector<double>* ends) {
    const LineEntry& entry = line_.entries()[number];
    heard_.end = std::max(heard_.end, end);
    if (ends != nullptr) ends->push_back(end);
    if (NewcomerGoesBehind(line_.TimeUntil(entry.place.time))) return;
    const double time_left = line_.TimeLeft(entry);
    const double late = margin_.On(line_.slowdown() * end) - time_left;
    if (late > 0) heard_.late.push_back({number, late, line_.slowdown() * end > time_left});
  }

  void HearOfComer(size_t number, double end) {
    const RetryPromise& comer = comers_[number];
    const double at = TimeUntil(comer);
    heard_.end = std::max(heard_.end, end);
    if (NewcomerGoesBehind(at + absl::ToDoubleSeconds(comer.place))) return;
    const double late = kPromiseMargin * margin_.On(line_.slowdown() * (end - at)) -
                        absl::ToDoubleSeconds(comer.deadline);
    if (late > 0) heard_.late.push_back({line_.entries().size() + number, late});
  }

  void HearOfNewcomer(const Future& future) {
    const bool is_near = of_newcomer_.end > 0;
    if (is_near) {
      heard_.start = future.times()[of_newcomer_.first].begin;
      heard_.finish = EndOf(of_newcomer_, future) - newcomer_->delay;
    }
    // Alone it endangers nobody.
    const bool is_alone = is_near && near_.size() + expected_.size() == 1;
    const double finish = line_.slowdown() * heard_.finish;
    heard_.newcomer_late =
        (is_alone ? finish : margin_.On(finish)) - newcomer_->deadline - kTimeRounding;
  }

  StandingLine& line_;
  const Newcomer* const newcomer_;
  const absl::Span<const RetryPromise> comers_;
  const Margin margin_;
  std::vector<ForecastSamples> near_, expected_;
  int near_samples_ = 0;  // with steps to go
  std::vector<Groups> near_entries_, of_comers_;
  Groups of_newcomer_;            // unless ...
  bool newcomer_is_far_ = false;  // ... it is behind the near ones, and has not run yet
  LineFuture heard_;
};

}  // namespace

// A request that is late anyway does not count; a comer counts, as it can be late only for want of
// a better forecast.
double LineFuture::OthersLate(const LineFuture& without) const {
  double most = 0;
  auto before = without.late.begin();
  for (const Late& other : late) {
    while (before != without.late.end() && before->who < other.who) ++before;
    const bool was_late = before != without.late.end() && before->who == other.who;
    if (was_late && before->is_lost) continue;
    const double more = other.by - (was_late ? before->by : 0);
    if (more > kTimeRounding) most = std::max(most, more);
  }
  return most;
}

LineFuture PlayLine(StandingLine& line, const Newcomer* newcomer,
                    absl::Span<const RetryPromise> comers, std::vector<double>* ends) {
  return LinePlaying(line, newcomer, comers).Play(ends);
}

}  // namespace image_variations
