#include "server/admission.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// What a retry waits at least: also when nothing can be predicted.
constexpr absl::Duration kMinRetryDelay = absl::Milliseconds(100);
constexpr absl::Duration kStartingRetryDelay = absl::Seconds(1);
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

absl::Status QueueFull(absl::string_view message, const ErrorMetadata& metadata) {
  return MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull, message, metadata);
}

absl::Status RetryAfter(absl::Duration delay, absl::Status status) {
  return WithRetryDelay(std::move(status), std::max(delay, kMinRetryDelay));
}

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
struct AdmissionGate::Newcomer {
  const RequestShape& shape;
  double place = 0;
  double deadline = kNever;
};

// A future with or without a newcomer, in seconds from now.
struct AdmissionGate::Outcome {
  double start = 0, finish = 0;  // the newcomer's
  int samples_ahead = 0;
  double newcomer_late = 0;   // beyond its deadline, with the forecast's margin; <= 0: in time
  double end = 0;             // of all others
  std::vector<double> ends;   // by entry
  std::vector<double> late;   // by entry, then by comer: beyond what it was promised, with margin
  std::vector<bool> is_lost;  // by entry: late even without margin

  // The most that the newcomer makes another one late, or later. A request that is late anyway does
  // not count; a comer counts, as it can be late only for want of a better forecast.
  double OthersLate(const Outcome& without) const {
    double most = 0;
    for (size_t i = 0; i < late.size(); ++i) {
      if (i < ends.size() && without.is_lost[i]) continue;
      const double more = late[i] - std::max(0.0, without.late[i]);
      if (more > kRounding) most = std::max(most, more);
    }
    return most;
  }
};

AdmissionTicket& AdmissionTicket::operator=(AdmissionTicket&& other) noexcept {
  std::swap(gate_, other.gate_);
  std::swap(place_, other.place_);
  std::swap(admitted_, other.admitted_);
  std::swap(served_, other.served_);
  std::swap(forecast_, other.forecast_);
  return *this;
}

AdmissionTicket::~AdmissionTicket() {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  const auto entry = gate_->Find(place_);
  gate_->inside_.Add(*entry, -1);
  gate_->entries_.erase(entry);
}

void AdmissionTicket::ReportProgress(const JobProgress& progress) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  AdmissionGate::Entry& entry = *gate_->Find(place_);
  gate_->inside_.Add(entry, -1);
  entry.samples_open = progress.samples_open;
  entry.samples_fresh = progress.samples_fresh;
  const int begun = entry.samples_open - entry.samples_fresh;
  const int steps =
      progress.steps_total - progress.steps_done - entry.samples_fresh * entry.shape.steps;
  entry.begun_steps = begun > 0 ? std::max(0, (steps + begun - 1) / begun) : 0;
  gate_->inside_.Add(entry, 1);
}

void AdmissionTicket::ReportServed(absl::Time now) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  AdmissionGate::Entry& entry = *gate_->Find(place_);
  gate_->inside_.Add(entry, -1);
  entry.samples_open = entry.samples_fresh = 0;
  gate_->inside_.Add(entry, 1);

  served_ = now;
  const absl::Duration predicted = forecast_.finish - absl::Seconds(gate_->answer_time_);
  if (predicted <= absl::ZeroDuration()) return;
  const double slowdown = absl::FDivDuration(now - admitted_, predicted);
  double& least = gate_->least_slowdown_;
  least = gate_->served_ == 0 ? slowdown : std::min(least, slowdown);
  if (++gate_->served_ < kServedInterval) return;
  gate_->slowdown_ = std::clamp(least, 1.0, kMaxSlowdown);
  gate_->served_ = 0;
}

void AdmissionTicket::ReportAnswered(absl::Time now) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  double& time = gate_->answer_time_;
  time += kWeightOfAnswer * (absl::ToDoubleSeconds(now - served_) - time);
}

int64_t AdmissionGate::Entry::unet_rows() const {
  const int begun = samples_open - samples_fresh;
  return int64_t{shape.rows} *
         (int64_t{samples_fresh} * shape.steps + int64_t{begun} * begun_steps);
}

void AdmissionGate::Inside::Add(const Entry& entry, int sign) {
  bytes += sign * entry.bytes;
  samples += sign * entry.shape.samples;
  unet_rows += sign * entry.unet_rows();
}

AdmissionGate::AdmissionGate(AdmissionOptions options)
    : options_(options),
      closed_(WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kStarting,
                                       "the server is starting: the model is being loaded"),
                             kStartingRetryDelay)),
      order_(options.interactive_target, options.batch_target) {}

absl::StatusOr<AdmissionTicket> AdmissionGate::Enter(const AdmissionRequest& request,
                                                     const CostModel& cost, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(closed_);
  if (request.deadline <= now) return MakeDeadlinePassedError(0, 0);
  promises_.Expire(now);
  const bool was_promised =
      !request.only_asks && promises_.Claim(request.caller, request.request_id, now);
  Forecast forecast(cost, options_.max_rows);
  RETURN_IF_ERROR(CheckLimits(request, forecast, ToSeconds(now)));

  const absl::Time place = order_.PlaceOf(request.caller, request.priority, request.deadline, now);
  const Newcomer newcomer{request.shape, absl::ToDoubleSeconds(place - now),
                          absl::ToDoubleSeconds(request.deadline - now)};
  // Other promises do not take the place of a promised one.
  const auto comers = was_promised ? absl::Span<const RetryPromise>() : promises_.counted();
  const Outcome outcome = Play(forecast, ToSeconds(now), &newcomer, 0, comers);
  const auto is_late = [](double late) { return late > 0; };
  if (is_late(outcome.newcomer_late) || std::ranges::any_of(outcome.late, is_late)) {
    RETURN_IF_ERROR(CheckTime(request, forecast, now, newcomer, outcome));
  }
  const std::vector<RetryPromise> company = recent_.Replay(now, absl::Seconds(outcome.finish));
  const Outcome expected =
      company.empty() ? outcome : Play(forecast, ToSeconds(now), &newcomer, 0, company);
  AdmissionTicket ticket;
  ticket.forecast_ = {absl::Seconds(expected.start), absl::Seconds(expected.finish + answer_time_),
                      outcome.samples_ahead};
  if (request.only_asks) return ticket;

  Entry entry{.place = {ToSeconds(place), ++arrivals_},
              .deadline = ToSeconds(request.deadline),
              .promised = ToSeconds(request.deadline) - answer_time_,
              .shape = request.shape,
              .bytes = request.bytes,
              .samples_open = request.shape.samples,
              .samples_fresh = request.shape.samples};
  const double target = kTargetMargin * newcomer.place;
  if (request.deadline == absl::InfiniteFuture() && slowdown_ * outcome.finish <= target) {
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
  ticket.place_ = entry.place;
  ticket.admitted_ = now;
  ticket.gate_ = this;
  return ticket;
}

void AdmissionGate::Open() {
  absl::MutexLock lock(&mutex_);
  closed_ = absl::OkStatus();
}

void AdmissionGate::Close(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  closed_ = std::move(why);
}

absl::Status AdmissionGate::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

int AdmissionGate::requests() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(entries_.size());
}

double AdmissionGate::slowdown() const {
  absl::MutexLock lock(&mutex_);
  return slowdown_;
}

bool AdmissionGate::WaitUntilEmpty(absl::Duration timeout) {
  const auto is_empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return entries_.empty(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&is_empty), timeout);
}

// The entry at this place, or the first one behind it.
std::vector<AdmissionGate::Entry>::iterator AdmissionGate::Find(const Place& place) {
  return std::ranges::lower_bound(entries_, place, {}, &Entry::place);
}

absl::Status AdmissionGate::CheckLimits(const AdmissionRequest& request, Forecast& forecast,
                                        double now) const {
  const auto requests = static_cast<int64_t>(entries_.size());
  const struct {
    absl::string_view what;
    int64_t inside, asked, limit;
    int64_t (*of)(const Entry&);  // what is free when it has left
  } table[] = {
      {"requests", requests, 1, options_.max_requests, [](const Entry&) { return int64_t{1}; }},
      {"bytes", inside_.bytes, request.bytes, options_.max_bytes,
       [](const Entry& entry) { return entry.bytes; }},
      {"samples", inside_.samples, request.shape.samples, options_.max_samples,
       [](const Entry& entry) { return int64_t{entry.shape.samples}; }},
      {"unet_rows", inside_.unet_rows, request.shape.unet_rows(), options_.max_unet_rows_ahead,
       [](const Entry& entry) { return entry.unet_rows(); }},
  };
  for (const auto& row : table) {
    if (row.inside + row.asked <= row.limit) continue;
    const absl::Status full =
        QueueFull(absl::StrCat("the line is full: ", row.inside, " ", row.what, " in it, ",
                               row.asked, " asked for, limit ", row.limit),
                  {{"resource", std::string(row.what)},
                   {"queued", absl::StrCat(row.inside)},
                   {"asked", absl::StrCat(row.asked)},
                   {"limit", absl::StrCat(row.limit)}});
    if (row.asked > row.limit) return full;  // it never fits
    const std::vector<double> ends = Play(forecast, now, nullptr, 0, promises_.counted()).ends;
    std::vector<std::pair<double, int64_t>> leaving;
    for (size_t i = 0; i < ends.size(); ++i) leaving.emplace_back(ends[i], row.of(entries_[i]));
    std::ranges::sort(leaving);
    int64_t missing = row.inside + row.asked - row.limit;
    double delay = 0;
    for (const auto& [end, freed] : leaving) {
      if (missing <= 0) break;
      missing -= freed;
      delay = end;
    }
    return RetryAfter(absl::Seconds(delay), full);
  }
  return absl::OkStatus();
}

// The future of all requests that were let in, of those who will come, and of the newcomer, who
// comes after `delay`.
AdmissionGate::Outcome AdmissionGate::Play(Forecast& forecast, double now, const Newcomer* newcomer,
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
  outcome.ends.reserve(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    outcome.ends.push_back(end_of(first_of[i], entry.samples_open));
    outcome.end = std::max(outcome.end, outcome.ends.back());
    const double time_left = entry.promised - now + kRounding;
    outcome.late.push_back(stretch * outcome.ends.back() - time_left);
    outcome.is_lost.push_back(slowdown_ * outcome.ends.back() > time_left);
  }
  for (size_t i = 0; i < comers.size(); ++i) {
    const double at = std::max(0.0, ToSeconds(comers[i].at) - now);
    const double end = end_of(first_of_comer[i], comers[i].shape.samples);
    outcome.end = std::max(outcome.end, end);
    const double deadline = absl::ToDoubleSeconds(comers[i].deadline);
    outcome.late.push_back(kPromiseMargin * stretch * (end - at) - deadline);
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

absl::Status AdmissionGate::CheckTime(const AdmissionRequest& request, Forecast& forecast,
                                      absl::Time now, const Newcomer& newcomer,
                                      const Outcome& outcome) {
  const Outcome without = Play(forecast, ToSeconds(now), nullptr, 0, promises_.counted());
  const double others_late = outcome.OthersLate(without);
  const double late = std::max(outcome.newcomer_late, others_late);
  if (late <= 0) return absl::OkStatus();
  absl::Status refused =
      outcome.newcomer_late > 0
          ? DeadlineUnreachable(absl::Seconds(newcomer.deadline + outcome.newcomer_late),
                                request.deadline - now)
          : QueueFull(
                "it would make another request miss its deadline",
                {{"resource", "time"}, {"late", absl::FormatDuration(absl::Seconds(others_late))}});
  std::vector<ForecastSample> alone;
  AppendSamples(request.shape, 0, 0, request.shape.samples, {.deadline = newcomer.deadline},
                &alone);
  if (slowdown_ * forecast.Play(alone).back().end > newcomer.deadline) return refused;  // never

  const double delay = RetryDelay(forecast, ToSeconds(now), newcomer, late, without);
  const absl::Duration wait =
      absl::Ceil(std::max(absl::Seconds(delay), kMinRetryDelay), absl::Milliseconds(1));
  if (!request.only_asks && !request.request_id.empty()) {
    promises_.Make({.caller = request.caller,
                    .request_id = request.request_id,
                    .shape = request.shape,
                    .at = now + wait,
                    .until = now + wait + std::max(kRetryGrace, wait / 2),
                    .place = absl::Seconds(newcomer.place),
                    .deadline = absl::Seconds(newcomer.deadline)});
  }
  return RetryAfter(wait, std::move(refused));
}

// How long after now the newcomer would be let in, as far as is known now.
double AdmissionGate::RetryDelay(Forecast& forecast, double now, const Newcomer& newcomer,
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
