#include "server/admission.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr absl::Duration kStartingRetryDelay = absl::Seconds(1);
constexpr absl::Duration kHeldRetryDelay = absl::Seconds(1);  // slow readers leave when they like

absl::Status QueueFull(absl::string_view what, int64_t inside, int64_t asked, int64_t limit) {
  return MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                   absl::StrCat("the line is full: ", inside, " ", what, " in it, ", asked,
                                " asked for, limit ", limit),
                   {{"resource", std::string(what)},
                    {"queued", absl::StrCat(inside)},
                    {"asked", absl::StrCat(asked)},
                    {"limit", absl::StrCat(limit)}});
}

}  // namespace

void GiveBackBytes::operator()(AdmissionGate* gate) const {
  absl::MutexLock lock(&gate->mutex_);
  gate->held_bytes_ -= bytes;
}

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
  gate_->line_.Leave(place_);
}

void AdmissionTicket::ReportProgress(const JobProgress& progress) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  gate_->line_.ReportProgress(place_, progress);
}

void AdmissionTicket::ReportServed(absl::Time now, bool is_complete) {
  if (gate_ == nullptr) return;
  served_ = now;
  absl::MutexLock lock(&gate_->mutex_);
  gate_->line_.ReportServed(place_);
  if (is_complete) gate_->line_.CompareTimes(forecast_.finish, now - admitted_);
}

void AdmissionTicket::ReportAnswered(absl::Time now) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  gate_->line_.ReportAnswered(now - served_);
}

AdmissionGate::AdmissionGate(AdmissionOptions options)
    : options_(options),
      closed_(WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kStarting,
                                       "the server is starting: the model is being loaded"),
                             kStartingRetryDelay)),
      line_(options.interactive_target, options.batch_target) {}

absl::StatusOr<AdmissionTicket> AdmissionGate::Enter(const AdmissionRequest& request,
                                                     const CostModel& cost, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(closed_);
  if (request.deadline <= now) return MakeDeadlinePassedError(0, 0);
  const bool was_promised = line_.Claim(request, now);
  Forecast forecast(cost, options_.max_rows);
  RETURN_IF_ERROR(CheckLimits(request, forecast, now));
  const AdmissionLine::Offer offer = line_.Consider(request, was_promised, forecast, now);
  if (!offer.is_admissible()) return line_.Refuse(request, offer, forecast, now);

  AdmissionTicket ticket;
  ticket.forecast_ = line_.Predict(request, offer, forecast, now);
  if (request.only_asks) return ticket;
  ticket.place_ = line_.Join(request, offer, forecast, now);
  ticket.admitted_ = now;
  ticket.gate_ = this;
  return ticket;
}

absl::StatusOr<HeldBytes> AdmissionGate::Hold(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (bytes_inside() + bytes > options_.max_bytes) {
    const absl::Status full = QueueFull("bytes", bytes_inside(), bytes, options_.max_bytes);
    return bytes > options_.max_bytes ? full : WithRetryDelay(full, kHeldRetryDelay);
  }
  held_bytes_ += bytes;
  return HeldBytes(this, GiveBackBytes{bytes});
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
  return static_cast<int>(line_.entries().size());
}

int64_t AdmissionGate::bytes() const {
  absl::MutexLock lock(&mutex_);
  return bytes_inside();
}

double AdmissionGate::slowdown() const {
  absl::MutexLock lock(&mutex_);
  return line_.slowdown();
}

bool AdmissionGate::WaitUntilEmpty(absl::Duration timeout) {
  const auto is_empty = [this]()
                            ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return line_.entries().empty(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&is_empty), timeout);
}

int64_t AdmissionGate::bytes_inside() const { return line_.inside().bytes + held_bytes_; }

absl::Status AdmissionGate::CheckLimits(const AdmissionRequest& request, Forecast& forecast,
                                        absl::Time now) const {
  const auto requests = static_cast<int64_t>(line_.entries().size());
  const struct {
    absl::string_view what;
    int64_t inside, asked, limit;
    int64_t (*of)(const AdmissionLine::Entry&);  // what is free when it has left
  } table[] = {
      {"requests", requests, 1, options_.max_requests,
       [](const AdmissionLine::Entry&) { return int64_t{1}; }},
      {"bytes", bytes_inside(), request.bytes, options_.max_bytes,
       [](const AdmissionLine::Entry& entry) { return entry.bytes; }},
      {"samples", line_.inside().samples, request.shape.samples, options_.max_samples,
       [](const AdmissionLine::Entry& entry) { return int64_t{entry.shape.samples}; }},
      {"unet_rows", line_.inside().unet_rows, request.shape.unet_rows(),
       options_.max_unet_rows_ahead,
       [](const AdmissionLine::Entry& entry) { return entry.unet_rows(); }},
  };
  for (const auto& row : table) {
    if (row.inside + row.asked <= row.limit) continue;
    const absl::Status full = QueueFull(row.what, row.inside, row.asked, row.limit);
    if (row.asked > row.limit) return full;  // it never fits
    const std::vector<double> ends = line_.Ends(forecast, now);
    std::vector<std::pair<double, int64_t>> leaving;
    for (size_t i = 0; i < ends.size(); ++i)
      leaving.emplace_back(ends[i], row.of(line_.entries()[i]));
    std::ranges::sort(leaving);
    int64_t missing = row.inside + row.asked - row.limit;
    double delay = 0;
    for (const auto& [end, freed] : leaving) {
      if (missing <= 0) break;
      missing -= freed;
      delay = end;
    }
    return WithRetryDelay(full, std::max(absl::Seconds(delay), kMinRetryDelay));
  }
  return absl::OkStatus();
}

}  // namespace image_variations
