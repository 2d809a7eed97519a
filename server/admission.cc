#include "server/admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

// Work of a picture beside its steps: VAE and safety, in rows of a UNet call (1.6 guided steps at
// 512x512).
constexpr double kDecodeRows = 3.2;

// What a retry waits at least: also when nothing can be predicted.
constexpr absl::Duration kMinRetryDelay = absl::Milliseconds(100);
constexpr absl::Duration kStartingRetryDelay = absl::Seconds(1);

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

}  // namespace

RequestCost CostOf(const ValidRequest& request, int64_t encoded_bytes, const StepCostModel& model,
                   int max_rows) {
  const int samples = request.sample_count;
  const int rows_per_step = RowsPerStep(request.guidance_scale);
  const auto steps = static_cast<int64_t>(request.plan->steps.size());
  const int64_t result_bytes =
      int64_t{3} * request.width * request.height +
      WorstCaseEncodedBytes(request.format, request.width, request.height, request.jpeg_quality);
  const int efficient_rows =
      std::max(rows_per_step, model.EfficientRows(request.latent_area, max_rows));
  const absl::Duration row_time =
      model.Predict(request.latent_area, efficient_rows) / efficient_rows;
  const int samples_per_call = std::min(samples, efficient_rows / rows_per_step);
  const int64_t calls = steps * ((samples + samples_per_call - 1) / samples_per_call);
  const absl::Duration decode_time = row_time * kDecodeRows * samples;
  const int64_t unet_rows = steps * samples * rows_per_step;
  return {
      .bytes = encoded_bytes + request.source.decode_bytes + samples * result_bytes,
      .samples = samples,
      .unet_rows = unet_rows,
      .alone_time = calls * model.Predict(request.latent_area, samples_per_call * rows_per_step) +
                    decode_time,
      .shared_time = unet_rows * row_time + decode_time,
  };
}

AdmissionTicket& AdmissionTicket::operator=(AdmissionTicket&& other) noexcept {
  std::swap(gate_, other.gate_);
  std::swap(place_, other.place_);
  std::swap(forecast_, other.forecast_);
  return *this;
}

AdmissionTicket::~AdmissionTicket() {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  gate_->entries_.erase(place_);
}

void AdmissionTicket::ReportProgress(int steps_done, int steps_total) {
  if (gate_ == nullptr || steps_total <= 0) return;
  const double left = 1 - static_cast<double>(steps_done) / steps_total;
  absl::MutexLock lock(&gate_->mutex_);
  auto& [left_cost, whole, deadline] = gate_->entries_.at(place_);
  left_cost.unet_rows = static_cast<int64_t>(static_cast<double>(whole.unet_rows) * left);
  left_cost.alone_time = whole.alone_time * left;
  left_cost.shared_time = whole.shared_time * left;
}

AdmissionGate::AdmissionGate(AdmissionOptions options)
    : options_(options),
      closed_(WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kStarting,
                                       "the server is starting: the model is being loaded"),
                             kStartingRetryDelay)) {}

absl::StatusOr<AdmissionTicket> AdmissionGate::Enter(const RequestCost& cost, Priority priority,
                                                     absl::Time deadline, absl::Time now) {
  const absl::Duration target =
      priority == Priority::kBatch ? options_.batch_target : options_.interactive_target;
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(closed_);
  if (deadline <= now) return MakeDeadlinePassedError(0, 0);
  RETURN_IF_ERROR(CheckLimits(cost));
  AdmissionTicket ticket;
  ticket.place_ = {deadline == absl::InfiniteFuture() ? now + target : deadline, ++arrivals_};
  ASSIGN_OR_RETURN(ticket.forecast_, Predict(cost, ticket.place_, deadline, now));
  entries_.emplace(ticket.place_, Entry{.left = cost, .whole = cost, .deadline = deadline});
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

bool AdmissionGate::WaitUntilEmpty(absl::Duration timeout) {
  const auto is_empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return entries_.empty(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&is_empty), timeout);
}

absl::Status AdmissionGate::CheckLimits(const RequestCost& cost) const {
  RequestCost inside;
  for (const auto& [place, entry] : entries_) {
    inside.bytes += entry.left.bytes;
    inside.samples += entry.left.samples;
    inside.unet_rows += entry.left.unet_rows;
  }
  const struct {
    absl::string_view what;
    int64_t inside, asked, limit;
  } table[] = {
      {"requests", static_cast<int64_t>(entries_.size()), 1, options_.max_requests},
      {"bytes", inside.bytes, cost.bytes, options_.max_bytes},
      {"samples", inside.samples, cost.samples, options_.max_samples},
      {"unet_rows", inside.unet_rows, cost.unet_rows, options_.max_unet_rows_ahead},
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
    const bool never_fits = row.asked > row.limit;
    return never_fits ? full : RetryAfter(TimeUntilOneLeaves(), full);
  }
  return absl::OkStatus();
}

absl::StatusOr<AdmissionForecast> AdmissionGate::Predict(const RequestCost& cost,
                                                         const Place& place, absl::Time deadline,
                                                         absl::Time now) const {
  AdmissionForecast forecast;
  auto entry = entries_.begin();
  for (; entry != entries_.end() && entry->first < place; ++entry) {
    forecast.start += entry->second.left.shared_time;
    forecast.samples_ahead += entry->second.left.samples;
  }
  forecast.finish = std::max(cost.alone_time, forecast.start + cost.shared_time);
  const absl::Duration remaining = deadline - now;
  if (forecast.finish > remaining) {
    const absl::Status late = DeadlineUnreachable(forecast.finish, remaining);
    const bool never = cost.alone_time > remaining;
    return never ? late : RetryAfter(forecast.finish - remaining, late);
  }
  absl::Duration finish = forecast.start + cost.shared_time;
  for (; entry != entries_.end(); ++entry) {
    finish += entry->second.left.shared_time;
    const absl::Duration late = now + finish - entry->second.deadline;
    const bool newcomer_makes_it_late = late > absl::ZeroDuration() && late <= cost.shared_time;
    if (newcomer_makes_it_late) {
      return RetryAfter(late,
                        QueueFull("it would make another request miss its deadline",
                                  {{"resource", "time"}, {"late", absl::FormatDuration(late)}}));
    }
  }
  return forecast;
}

absl::Duration AdmissionGate::TimeUntilOneLeaves() const {
  return entries_.empty() ? kMinRetryDelay : entries_.begin()->second.left.shared_time;
}

}  // namespace image_variations
