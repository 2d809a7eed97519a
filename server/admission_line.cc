#include "server/admission_line.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr int kRetryGuesses = 4;
constexpr absl::Duration kRetryGrace = absl::Seconds(1);  // how late a retry may come, at least

// Requests whose times are compared before predictions are stretched or let go.
constexpr int kServedInterval = 8;
constexpr double kMaxSlowdown = 4;

// Targets are far off, and much changes until they come.
constexpr double kTargetMargin = 0.95;

constexpr double kWeightOfAnswer = 0.1;  // of one more request's time from pictures to answer

double ToSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

absl::Status DeadlineUnreachable(absl::Duration predicted, absl::Duration remaining) {
  return MakeError(absl::StatusCode::kResourceExhausted, reason::kDeadlineUnreachable,
                   absl::StrCat("predicted to take ", absl::FormatDuration(predicted),
                                ", the deadline is in ", absl::FormatDuration(remaining)),
                   {{"predicted", absl::FormatDuration(predicted)},
                    {"deadline", absl::FormatDuration(remaining)}});
}

}  // namespace

void AdmissionLine::Inside::Add(const LineEntry& entry, int sign) {
  bytes += sign * entry.bytes;
  samples += int64_t{sign} * entry.shape.samples;
  unet_rows += sign * entry.unet_rows();
}

void AdmissionLine::Inside::Add(const Inside& other) {
  bytes += other.bytes;
  samples += other.samples;
  unet_rows += other.unet_rows;
}

AdmissionLine::AdmissionLine(absl::Duration interactive_target, absl::Duration batch_target)
    : order_(interactive_target, batch_target) {}

bool AdmissionLine::Claim(const AdmissionRequest& request, absl::Time now) {
  promises_.Expire(now);
  return !request.only_asks && promises_.Claim(request.caller, request.request_id, now);
}

StandingLine AdmissionLine::Standing(const Forecast& forecast, absl::Time now) const {
  return StandingLine(entries_, slowdown_, forecast, now);
}

AdmissionLine::Offer AdmissionLine::Consider(const AdmissionRequest& request, bool was_promised,
                                             StandingLine& line) const {
  const absl::Time now = line.now();
  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  Offer offer{.place = absl::ToDoubleSeconds(place - now),
              .deadline = absl::ToDoubleSeconds(request.deadline - now) - answer_time_};
  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  // Other promises do not take the place of a promised one.
  const auto comers = was_promised ? absl::Span<const RetryPromise>() : promises_.counted();
  offer.with = PlayLine(line, &newcomer, comers);
  if (offer.with.newcomer_late > 0 || !offer.with.late.empty()) {
    offer.without = PlayLine(line, nullptr, promises_.counted());
    offer.others_late = offer.with.OthersLate(offer.without);
  }
  return offer;
}

AdmissionForecast AdmissionLine::Predict(const AdmissionRequest& request, const Offer& offer,
                                         StandingLine& line) const {
  const std::vector<RetryPromise> company =
      recent_.Replay(line.now(), absl::Seconds(offer.with.finish));
  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  const LineFuture expected = company.empty() ? offer.with : PlayLine(line, &newcomer, company);
  return {absl::Seconds(expected.start), absl::Seconds(expected.finish + answer_time_),
          absl::Seconds(answer_time_), offer.with.samples_ahead};
}

AdmissionLine::Place AdmissionLine::Join(const AdmissionRequest& request, const Offer& offer,
                                         StandingLine& line) {
  const absl::Time now = line.now();
  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  const double done_by = ToSeconds(request.deadline) - answer_time_;
  LineEntry entry{.place = {ToSeconds(place), ++arrivals_},
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
              line.forecast()
                  .times(request.shape.size)
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
                                             StandingLine& line) const {
  absl::Status refused =
      offer.with.newcomer_late > 0
          ? DeadlineUnreachable(
                absl::Seconds(offer.deadline + answer_time_ + offer.with.newcomer_late),
                request.deadline - line.now())
          : MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                      "it would make another request miss its deadline",
                      {{"resource", "time"},
                       {"late", absl::FormatDuration(absl::Seconds(offer.others_late))}});
  const Newcomer newcomer{request.shape, offer.place, offer.deadline};
  StandingLine nobody({}, slowdown_, line.forecast(), line.now());
  if (slowdown_ * PlayLine(nobody, &newcomer, {}).finish > offer.deadline) {
    return {std::move(refused)};
  }
  const double delay = RetryDelay(
      line, newcomer, std::max(offer.with.newcomer_late, offer.others_late), offer.without);
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
  LineEntry& entry = *Find(place);
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
  LineEntry& entry = *Find(place);
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

std::vector<double> AdmissionLine::Ends(StandingLine& line) const {
  std::vector<double> ends;
  PlayLine(line, nullptr, promises_.counted(), &ends);
  return ends;
}

// The entry at this place, or the first one behind it.
std::vector<LineEntry>::iterator AdmissionLine::Find(const Place& place) {
  return std::ranges::lower_bound(entries_, place, {}, &LineEntry::place);
}

// How long after now the newcomer would be let in, as far as is known now.
double AdmissionLine::RetryDelay(StandingLine& line, Newcomer newcomer, double late,
                                 const LineFuture& without) const {
  newcomer.delay = late;
  for (int guess = 0; guess < kRetryGuesses; ++guess) {
    const LineFuture later = PlayLine(line, &newcomer, promises_.counted());
    const double finish = kPromiseMargin * line.forecast().margin().On(slowdown_ * later.finish);
    const double newcomer_late = finish - newcomer.deadline;
    const double still_late = std::max(newcomer_late, later.OthersLate(without));
    if (still_late <= 0) return newcomer.delay;
    newcomer.delay += still_late;
  }
  return std::max(newcomer.delay, without.end);
}

}  // namespace image_variations
