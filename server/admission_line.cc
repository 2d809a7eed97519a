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

// A request's samples as the forecast takes them; those that began come first.
void AppendSamples(const RequestShape& shape, int begun, int begun_steps, int fresh,
                   const ForecastSample& common, std::vector<ForecastSample>* samples) {
  ForecastSample sample = common;
  sample.size = shape.size;
  sample.rows = shape.rows;
  sample.steps_left = begun_steps;
  for (int i = 0; i < begun; ++i) samples->push_back(sample);
  sample.steps_left = shape.steps;
  sample.needs_embedding = begun == 0 && fresh == shape.samples;
  for (int i = 0; i < fresh; ++i) {
    samples->push_back(sample);
    sample.needs_embedding = false;
  }
}

}  // namespace

// A request that asks to be let in. Times are seconds from now.
struct AdmissionLine::Newcomer {
  const RequestShape& shape;
  double place = 0;
  double deadline = kNever;
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
              .deadline = absl::ToDoubleSeconds(request.deadline - now)};
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
          offer.with.samples_ahead};
}

AdmissionLine::Place AdmissionLine::Join(const AdmissionRequest& request, const Offer& offer,
                                         Forecast& forecast, absl::Time now) {
  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  Entry entry{.place = {ToSeconds(place), ++arrivals_},
              .deadline = ToSeconds(request.deadline),
              .promised = ToSeconds(request.deadline) - answer_time_,
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
               .deadline = request.deadline - now});
  inside_.Add(entry, 1);
  entries_.insert(Find(entry.place), entry);
  return entry.place;
}

AdmissionLine::Refusal AdmissionLine::Refuse(const AdmissionRequest& request, const Offer& offer,
                                             Forecast& forecast, absl::Time now) const {
  absl::Status refused =
      offer.with.newcomer_late > 0
          ? DeadlineUnreachable(absl::Seconds(offer.deadline + offer.with.newcomer_late),
                                request.deadline - now)
          : MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                      "it would make another request miss its deadline",
                      {{"resource", "time"},
                       {"late", absl::FormatDuration(absl::Seconds(offer.others_late))}});
  std::vector<ForecastSample> alone;
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
  Outcome outcome;
  std::vector<ForecastSample> present, expected;
  std::vector<size_t> first_of;  // of each entry, in present
  present.reserve(static_cast<size_t>(inside_.samples) + 16);
  first_of.reserve(entries_.size() + 1);
  size_t newcomer_at = 0;  // in present, or in expected
  const bool is_here = newcomer != nullptr && delay == 0;
  bool is_placed = !is_here;
  const auto place_newcomer = [&] {
    newcomer_at = present.size();
    outcome.samples_ahead = static_cast<int>(present.size());
    AppendSamples(newcomer->shape, 0, 0, newcomer->shape.samples,
                  {.place = newcomer->place, .deadline = newcomer->deadline}, &present);
    is_placed = true;
  };
  for (const Entry& entry : entries_) {
    if (!is_placed && now + newcomer->place < entry.place.time) place_newcomer();
    first_of.push_back(present.size());
    AppendSamples(entry.shape, entry.samples_open - entry.samples_fresh, entry.begun_steps,
                  entry.samples_fresh,
                  {.place = entry.place.time - now, .deadline = entry.deadline - now}, &present);
  }
  if (!is_placed) place_newcomer();

  std::vector<size_t> first_of_comer;
  bool is_expected = newcomer != nullptr && delay > 0;
  const auto expect_newcomer = [&] {
    newcomer_at = present.size() + expected.size();
    AppendSamples(newcomer->shape, 0, 0, newcomer->shape.samples,
                  {.place = delay + newcomer->place,
                   .deadline = delay + newcomer->deadline,
                   .arrival = delay},
                  &expected);
    is_expected = false;
  };
  for (const RetryPromise& comer : comers) {
    const double at = std::max(0.0, ToSeconds(comer.at) - now);
    if (is_expected && delay < at) expect_newcomer();
    first_of_comer.push_back(present.size() + expected.size());
    AppendSamples(comer.shape, 0, 0, comer.shape.samples,
                  {.place = at + absl::ToDoubleSeconds(comer.place),
                   .deadline = at + absl::ToDoubleSeconds(comer.deadline),
                   .arrival = at},
                  &expected);
  }
  if (is_expected) expect_newcomer();

  const std::vector<ForecastTimes> times = forecast.Play(present, expected);
  const double stretch = slowdown_ * (1 + forecast.margin());
  const auto end_of = [&](size_t first, int samples) {
    double end = 0;
    for (size_t i = first; i < first + static_cast<size_t>(samples); ++i) {
      end = std::max(end, times[i].end);
    }
    return end;
  };
  // It gives way to them in every call, so it makes none of them late.
  const auto goes_behind = [&](double place) {
    return newcomer != nullptr && delay + newcomer->place >= place;
  };
  outcome.ends.reserve(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    outcome.ends.push_back(end_of(first_of[i], entry.samples_open));
    outcome.end = std::max(outcome.end, outcome.ends.back());
    const double time_left = entry.promised - now + kRounding;
    outcome.late.push_back(
        goes_behind(entry.place.time - now) ? -kNever : stretch * outcome.ends.back() - time_left);
    outcome.is_lost.push_back(slowdown_ * outcome.ends.back() > time_left);
  }
  for (size_t i = 0; i < comers.size(); ++i) {
    const double at = std::max(0.0, ToSeconds(comers[i].at) - now);
    const double end = end_of(first_of_comer[i], comers[i].shape.samples);
    outcome.end = std::max(outcome.end, end);
    const double deadline = absl::ToDoubleSeconds(comers[i].deadline);
    const double place = at + absl::ToDoubleSeconds(comers[i].place);
    outcome.late.push_back(goes_behind(place) ? -kNever
                                              : kPromiseMargin * stretch * (end - at) - deadline);
  }
  if (newcomer != nullptr) {
    outcome.start = times[newcomer_at].begin;
    outcome.finish = end_of(newcomer_at, newcomer->shape.samples) - delay;
    // Alone it endangers nobody.
    const bool is_alone =
        present.size() + expected.size() == static_cast<size_t>(newcomer->shape.samples);
    outcome.newcomer_late = (is_alone ? slowdown_ : stretch) * outcome.finish + answer_time_ -
                            newcomer->deadline - kRounding;
  }
  return outcome;
}

// How long after now the newcomer would be let in, as far as is known now.
double AdmissionLine::RetryDelay(Forecast& forecast, double now, const Newcomer& newcomer,
                                 double late, const Outcome& without) const {
  const double margin = kPromiseMargin * slowdown_ * (1 + forecast.margin());
  double delay = late;
  for (int guess = 0; guess < kRetryGuesses; ++guess) {
    const Outcome later = Play(forecast, now, &newcomer, delay, promises_.counted());
    const double newcomer_late = margin * later.finish - newcomer.deadline;
    const double still_late = std::max(newcomer_late, later.OthersLate(without));
    if (still_late <= 0) return delay;
    delay += still_late;
  }
  return std::max(delay, without.end);
}

}  // namespace image_variations
