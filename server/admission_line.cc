#include "server/admission_line.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

constexpr int kRetryGuesses = 4;
constexpr absl::Duration kRetryGrace = absl::Seconds(1);  // how late a retry may come, at least

// Requests whose times are compared before predictions are stretched or let go.
constexpr int kServedInterval = 8;
constexpr double kMaxSlowdown = 4;

// How much more time a promise is given than its request is predicted to take: until it is kept,
// those who are let in before it change the future a little.
constexpr double kPromiseMargin = 1.1;
// Targets are far off, and much changes until they come.
constexpr double kTargetMargin = 0.95;

constexpr double kWeightOfAnswer = 0.1;  // of one more request's time from pictures to answer

constexpr double kRounding = 1e-6;  // seconds

double ToSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

absl::Status DeadlineUnreachable(absl::Duration predicted, absl::Duration remaining) {
  return MakeError(absl::StatusCode::kResourceExhausted, reason::kDeadlineUnreachable,
                   absl::StrCat("predicted to take ", absl::FormatDuration(predicted),
                                ", the deadline is in ", absl::FormatDuration(remaining)),
                   {{"predicted", absl::FormatDuration(predicted)},
                    {"deadline", absl::FormatDuration(remaining)}});
}

// From now, in seconds.
double TimeUntil(const RetryPromise& comer, double now) {
  return std::max(0.0, ToSeconds(comer.at) - now);
}

// A request's samples as the forecast takes them: first those that began, if there are any, then
// the others.
void AppendSamples(const RequestShape& shape, int begun, int begun_steps, int fresh,
                   const ForecastSamples& common, std::vector<ForecastSamples>* samples) {
  ForecastSamples group = common;
  group.size = shape.size;
  group.rows = shape.rows;
  group.steps_left = begun_steps;
  group.count = begun;
  if (begun > 0) samples->push_back(group);
  group.steps_left = shape.steps;
  group.needs_embedding = begun == 0 && fresh == shape.samples;
  group.count = fresh;
  if (fresh > 0) samples->push_back(group);
}

}  // namespace

// A request that asks to be let in. Times are seconds from now.
struct AdmissionLine::Newcomer {
  const RequestShape& shape;
  double place = 0;
  double deadline = kNever;
};

// What the forecast is asked. Groups of like samples count through those present, then those
// expected.
struct AdmissionLine::Question {
  struct Groups {
    size_t first = 0, end = 0;
  };
  std::vector<ForecastSamples> present, expected;
  std::vector<Groups> entries, comers;
  Groups newcomer;
  int samples_ahead = 0;
};

int64_t AdmissionLine::Entry::unet_rows() const {
  const int begun = samples_open - samples_fresh;
  return int64_t{shape.rows} *
         (int64_t{samples_fresh} * shape.steps + int64_t{begun} * begun_steps);
}

void AdmissionLine::Inside::Add(const Entry& entry, int sign) {
  bytes += sign * entry.bytes;
  samples += sign * entry.shape.samples;
  unet_rows += sign * entry.unet_rows();
}

void AdmissionLine::Inside::Add(const Inside& other) {
  bytes += other.bytes;
  samples += other.samples;
  unet_rows += other.unet_rows;
}

// A request that is late anyway does not count; a comer counts, as it can be late only for want of
// a better forecast.
double AdmissionLine::Outcome::OthersLate(const Outcome& without) const {
  double most = 0;
  for (size_t i = 0; i < late.size(); ++i) {
    if (i < ends.size() && without.is_lost[i]) continue;
    const double more = late[i] - std::max(0.0, without.late[i]);
    if (more > kRounding) most = std::max(most, more);
  }
  return most;
}

AdmissionLine::AdmissionLine(absl::Duration interactive_target, absl::Duration batch_target)
    : order_(interactive_target, batch_target) {}

bool AdmissionLine::Claim(const AdmissionRequest& request, absl::Time now) {
  promises_.Expire(now);
  return !request.only_asks && promises_.Claim(request.caller, request.request_id, now);
}

AdmissionLine::Offer AdmissionLine::Consider(const AdmissionRequest& request, bool was_promised,
                                             Forecast& forecast, absl::Time now) const {
  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  Offer offer{.place = absl::ToDoubleSeconds(place - now),
              .deadline = absl::ToDoubleSeconds(request.deadline - now) - answer_time_};
  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  // Other promises do not take the place of a promised one.
  const auto comers = was_promised ? absl::Span<const RetryPromise>() : promises_.counted();
  offer.with = Play(forecast, ToSeconds(now), &newcomer, 0, comers);
  const auto is_late = [](double late) { return late > 0; };
  if (offer.with.newcomer_late > 0 || std::ranges::any_of(offer.with.late, is_late)) {
    offer.without = Play(forecast, ToSeconds(now), nullptr, 0, promises_.counted());
    offer.others_late = offer.with.OthersLate(offer.without);
  }
  return offer;
}

AdmissionForecast AdmissionLine::Predict(const AdmissionRequest& request, const Offer& offer,
                                         Forecast& forecast, absl::Time now) const {
  const std::vector<RetryPromise> company = recent_.Replay(now, absl::Seconds(offer.with.finish));
  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  const Outcome expected =
      company.empty() ? offer.with : Play(forecast, ToSeconds(now), &newcomer, 0, company);
  return {absl::Seconds(expected.start), absl::Seconds(expected.finish + answer_time_),
          absl::Seconds(answer_time_), offer.with.samples_ahead};
}

AdmissionLine::Place AdmissionLine::Join(const AdmissionRequest& request, const Offer& offer,
                                         Forecast& forecast, absl::Time now) {
  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  const double done_by = ToSeconds(request.deadline) - answer_time_;
  Entry entry{.place = {ToSeconds(place), ++arrivals_},
              .deadline = done_by,
              .promised = done_by,
              .shape = request.shape,
              .bytes = request.bytes,
              .samples_open = request.shape.samples,
              .samples_fresh = request.shape.samples};
  const double target = kTargetMargin * offer.place;
  if (request.deadline == absl::InfiniteFuture() && slowdown_ * offer.with.finish <= target) {
    entry.promised = ToSeconds(now) + target;
  }
  order_.Join(request.caller, request.priority,
              forecast.times(request.shape.size)
                  .WorkOf(request.shape.unet_rows(), request.shape.samples, 1),
              now);
  recent_.Add({.shape = request.shape,
               .at = now,
               .place = place - now,
               .deadline = absl::Seconds(offer.deadline)});
  inside_.Add(entry, 1);
  entries_.insert(Find(entry.place), entry);
  return entry.place;
}

AdmissionLine::Refusal AdmissionLine::Refuse(const AdmissionRequest& request, const Offer& offer,
                                             Forecast& forecast, absl::Time now) const {
  absl::Status refused =
      offer.with.newcomer_late > 0
          ? DeadlineUnreachable(
                absl::Seconds(offer.deadline + answer_time_ + offer.with.newcomer_late),
                request.deadline - now)
          : MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                      "it would make another request miss its deadline",
                      {{"resource", "time"},
                       {"late", absl::FormatDuration(absl::Seconds(offer.others_late))}});
  std::vector<ForecastSamples> alone;
  AppendSamples(request.shape, 0, 0, request.shape.samples, {.deadline = offer.deadline}, &alone);
  if (slowdown_ * forecast.Play(alone).back().end > offer.deadline) return {std::move(refused)};

  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  const double delay =
      RetryDelay(forecast, ToSeconds(now), newcomer,
                 std::max(offer.with.newcomer_late, offer.others_late), offer.without);
  const absl::Duration wait =
      absl::Ceil(std::max(absl::Seconds(delay), kMinRetryDelay), absl::Milliseconds(1));
  return {WithRetryDelay(std::move(refused), wait), wait};
}

void AdmissionLine::Promise(const AdmissionRequest& request, const Offer& offer,
                            absl::Duration wait, absl::Time now) {
  promises_.Make({.caller = request.caller,
                  .request_id = request.request_id,
                  .shape = request.shape,
                  .at = now + wait,
                  .until = now + wait + std::max(kRetryGrace, wait / 2),
                  .place = absl::Seconds(offer.place),
                  .deadline = absl::Seconds(offer.deadline)});
}

void AdmissionLine::TakeBackPromise(const AdmissionRequest& request) {
  promises_.TakeBack(request.caller, request.request_id);
}

void AdmissionLine::ReportProgress(const Place& place, const JobProgress& progress) {
  Entry& entry = *Find(place);
  inside_.Add(entry, -1);
  entry.samples_open = progress.samples_open;
  entry.samples_fresh = progress.samples_fresh;
  const int begun = entry.samples_open - entry.samples_fresh;
  const int steps =
      progress.steps_total - progress.steps_done - entry.samples_fresh * entry.shape.steps;
  entry.begun_steps = begun > 0 ? std::max(0, (steps + begun - 1) / begun) : 0;
  inside_.Add(entry, 1);
}

void AdmissionLine::ReportServed(const Place& place) {
  Entry& entry = *Find(place);
  inside_.Add(entry, -1);
  entry.samples_open = entry.samples_fresh = 0;
  inside_.Add(entry, 1);
}

void AdmissionLine::CompareTimes(absl::Duration predicted, absl::Duration actual) {
  predicted -= absl::Seconds(answer_time_);
  if (predicted <= absl::ZeroDuration()) return;
  const double slowdown = absl::FDivDuration(actual, predicted);
  least_slowdown_ = served_ == 0 ? slowdown : std::min(least_slowdown_, slowdown);
  if (++served_ < kServedInterval) return;
  slowdown_ = std::clamp(least_slowdown_, 1.0, kMaxSlowdown);
  served_ = 0;
}

void AdmissionLine::ReportAnswered(absl::Duration since_served) {
  answer_time_ += kWeightOfAnswer * (absl::ToDoubleSeconds(since_served) - answer_time_);
}

void AdmissionLine::Leave(const Place& place) {
  const auto entry = Find(place);
  inside_.Add(*entry, -1);
  entries_.erase(entry);
}

std::vector<double> AdmissionLine::Ends(Forecast& forecast, absl::Time now) const {
  return Play(forecast, ToSeconds(now), nullptr, 0, promises_.counted()).ends;
}

// The entry at this place, or the first one behind it.
std::vector<AdmissionLine::Entry>::iterator AdmissionLine::Find(const Place& place) {
  return std::ranges::lower_bound(entries_, place, {}, &Entry::place);
}

// The future of all requests that were let in, of those who will come, and of the newcomer, who
// comes after `delay`.
AdmissionLine::Outcome AdmissionLine::Play(Forecast& forecast, double now, const Newcomer* newcomer,
                                           double delay,
                                           absl::Span<const RetryPromise> comers) const {
  Question question;
  AskOfEntries(now, delay == 0 ? newcomer : nullptr, &question);
  AskOfComers(now, delay > 0 ? newcomer : nullptr, delay, comers, &question);
  const std::vector<ForecastTimes> times = forecast.Play(question.present, question.expected);
  const auto end_of = [&](const Question::Groups& groups) {
    double end = 0;
    for (size_t i = groups.first; i < groups.end; ++i) end = std::max(end, times[i].end);
    return end;
  };
  const Margin margin = forecast.margin();
  // It gives way to them in every call, so it makes none of them late.
  const auto goes_behind = [&](double place) {
    return newcomer != nullptr && delay + newcomer->place >= place;
  };
  Outcome outcome;
  outcome.ends.reserve(entries_.size());
  outcome.late.reserve(entries_.size() + comers.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    outcome.ends.push_back(end_of(question.entries[i]));
    outcome.end = std::max(outcome.end, outcome.ends.back());
    const double time_left = entry.promised - now + kRounding;
    outcome.late.push_back(goes_behind(entry.place.time - now)
                               ? -kNever
                               : margin.On(slowdown_ * outcome.ends.back()) - time_left);
    outcome.is_lost.push_back(slowdown_ * outcome.ends.back() > time_left);
  }
  for (size_t i = 0; i < comers.size(); ++i) {
    const double at = TimeUntil(comers[i], now);
    const double end = end_of(question.comers[i]);
    outcome.end = std::max(outcome.end, end);
    const double place = at + absl::ToDoubleSeconds(comers[i].place);
    const double deadline = absl::ToDoubleSeconds(comers[i].deadline);
    outcome.late.push_back(goes_behind(place)
                               ? -kNever
                               : kPromiseMargin * margin.On(slowdown_ * (end - at)) - deadline);
  }
  if (newcomer != nullptr) {
    outcome.samples_ahead = question.samples_ahead;
    outcome.start = times[question.newcomer.first].begin;
    outcome.finish = end_of(question.newcomer) - delay;
    // Alone it endangers nobody.
    const bool is_alone = question.present.size() + question.expected.size() == 1;
    const double finish = slowdown_ * outcome.finish;
    outcome.newcomer_late =
        (is_alone ? finish : margin.On(finish)) - newcomer->deadline - kRounding;
  }
  return outcome;
}

// Those in line, and the newcomer, if there is one, at its place among them.
void AdmissionLine::AskOfEntries(double now, const Newcomer* newcomer, Question* question) const {
  std::vector<ForecastSamples>& present = question->present;
  present.reserve(2 * entries_.size() + 1);
  question->entries.reserve(entries_.size());
  const auto place_newcomer = [&] {
    question->newcomer.first = present.size();
    AppendSamples(newcomer->shape, 0, 0, newcomer->shape.samples,
                  {.place = newcomer->place, .deadline = newcomer->deadline}, &present);
    question->newcomer.end = present.size();
    newcomer = nullptr;
  };
  for (const Entry& entry : entries_) {
    if (newcomer != nullptr && now + newcomer->place < entry.place.time) place_newcomer();
    const size_t first = present.size();
    AppendSamples(entry.shape, entry.samples_open - entry.samples_fresh, entry.begun_steps,
                  entry.samples_fresh,
                  {.place = entry.place.time - now, .deadline = entry.deadline - now}, &present);
    question->entries.push_back({first, present.size()});
    if (newcomer != nullptr) question->samples_ahead += entry.samples_open;
  }
  if (newcomer != nullptr) place_newcomer();
}

// Those who will come, and the newcomer, if there is one, after `delay` among them.
void AdmissionLine::AskOfComers(double now, const Newcomer* newcomer, double delay,
                                absl::Span<const RetryPromise> comers, Question* question) const {
  const auto expect = [&](const RequestShape& shape, double at, double place, double deadline) {
    const size_t first = question->present.size() + question->expected.size();
    AppendSamples(shape, 0, 0, shape.samples,
                  {.place = at + place, .deadline = at + deadline, .arrival = at},
                  &question->expected);
    return Question::Groups{first, first + 1};
  };
  const auto expect_newcomer = [&] {
    question->newcomer = expect(newcomer->shape, delay, newcomer->place, newcomer->deadline);
    newcomer = nullptr;
  };
  for (const RetryPromise& comer : comers) {
    const double at = TimeUntil(comer, now);
    if (newcomer != nullptr && delay < at) expect_newcomer();
    question->comers.push_back(expect(comer.shape, at, absl::ToDoubleSeconds(comer.place),
                                      absl::ToDoubleSeconds(comer.deadline)));
  }
  if (newcomer != nullptr) expect_newcomer();
}

// How long after now the newcomer would be let in, as far as is known now.
double AdmissionLine::RetryDelay(Forecast& forecast, double now, const Newcomer& newcomer,
                                 double late, const Outcome& without) const {
  double delay = late;
  for (int guess = 0; guess < kRetryGuesses; ++guess) {
    const Outcome later = Play(forecast, now, &newcomer, delay, promises_.counted());
    const double finish = kPromiseMargin * forecast.margin().On(slowdown_ * later.finish);
    const double newcomer_late = finish - newcomer.deadline;
    const double still_late = std::max(newcomer_late, later.OthersLate(without));
    if (still_late <= 0) return delay;
    delay += still_late;
  }
  return std::max(delay, without.end);
}

}  // namespace image_variations
