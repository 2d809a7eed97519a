#include "server/admission.h"

#include <algorithm>
#include <cmath>
#include <optional>
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
constexpr double kSameTime = 1e-6;  // seconds

}  // namespace

void GiveBackBytes::operator()(AdmissionGate* gate) const {
  absl::MutexLock lock(&gate->mutex_);
  gate->held_bytes_ -= bytes;
}

AdmissionTicket& AdmissionTicket::operator=(AdmissionTicket&& other) noexcept {
  std::swap(gate_, other.gate_);
  std::swap(device_, other.device_);
  std::swap(place_, other.place_);
  std::swap(admitted_, other.admitted_);
  std::swap(served_, other.served_);
  std::swap(forecast_, other.forecast_);
  return *this;
}

AdmissionTicket::~AdmissionTicket() {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  line().Leave(place_);
}

AdmissionLine& AdmissionTicket::line() const { return gate_->lines_[static_cast<size_t>(device_)]; }

void AdmissionTicket::ReportProgress(const JobProgress& progress) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  line().ReportProgress(place_, progress);
}

void AdmissionTicket::ReportServed(absl::Time now, bool is_complete) {
  if (gate_ == nullptr) return;
  served_ = now;
  absl::MutexLock lock(&gate_->mutex_);
  line().ReportServed(place_);
  if (is_complete) line().CompareTimes(forecast_.finish, now - admitted_);
}

void AdmissionTicket::ReportAnswered(absl::Time now) {
  if (gate_ == nullptr) return;
  absl::MutexLock lock(&gate_->mutex_);
  line().ReportAnswered(now - served_);
}

AdmissionGate::AdmissionGate(AdmissionOptions options)
    : options_(options),
      closed_(WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kStarting,
                                       "the server is starting: the model is being loaded"),
                             kStartingRetryDelay)),
      lines_(static_cast<size_t>(options.devices),
             AdmissionLine(options.interactive_target, options.batch_target)) {}

absl::StatusOr<AdmissionTicket> AdmissionGate::Enter(const AdmissionRequest& request,
                                                     absl::Span<const CostModel> costs,
                                                     absl::Time now) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(closed_);
  if (request.deadline <= now) return MakeDeadlinePassedError(0, 0);
  IV_CHECK(costs.size() == lines_.size());
  std::vector<bool> was_promised;
  std::vector<StandingLine> standing;
  for (size_t i = 0; i < lines_.size(); ++i) {
    was_promised.push_back(lines_[i].Claim(request, now));
    standing.push_back(lines_[i].Standing(Forecast(costs[i], options_.max_rows), now));
  }
  RETURN_IF_ERROR(CheckLimits(request, standing));

  std::vector<AdmissionLine::Offer> offers;
  std::optional<size_t> best;
  double best_finish = 0;
  for (size_t i = 0; i < lines_.size(); ++i) {
    offers.push_back(lines_[i].Consider(request, was_promised[i], standing[i]));
    if (!offers[i].is_admissible()) continue;
    const double finish = lines_[i].slowdown() * offers[i].with.finish;
    const bool is_sooner =
        !best || (std::abs(finish - best_finish) > kSameTime
                      ? finish < best_finish
                      : offers[i].with.samples_ahead < offers[*best].with.samples_ahead);
    if (!is_sooner) continue;
    best = i;
    best_finish = finish;
  }
  if (!best) return Refuse(request, standing, offers);

  AdmissionLine& line = lines_[*best];
  AdmissionTicket ticket;
  ticket.device_ = static_cast<int>(*best);
  ticket.forecast_ = line.Predict(request, offers[*best], standing[*best]);
  if (request.only_asks) return ticket;
  ticket.place_ = line.Join(request, offers[*best], standing[*best]);
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
  return CountRequests();
}

int64_t AdmissionGate::bytes() const {
  absl::MutexLock lock(&mutex_);
  return bytes_inside();
}

double AdmissionGate::slowdown() const {
  absl::MutexLock lock(&mutex_);
  double most = 0;
  for (const AdmissionLine& line : lines_) most = std::max(most, line.slowdown());
  return most;
}

bool AdmissionGate::WaitUntilEmpty(absl::Duration timeout) {
  const auto is_empty = [this]()
                            ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return CountRequests() == 0; };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&is_empty), timeout);
}

AdmissionLine::Inside AdmissionGate::inside() const {
  AdmissionLine::Inside sum;
  for (const AdmissionLine& line : lines_) sum.Add(line.inside());
  return sum;
}

int64_t AdmissionGate::bytes_inside() const { return inside().bytes + held_bytes_; }

int AdmissionGate::CountRequests() const {
  size_t requests = 0;
  for (const AdmissionLine& line : lines_) requests += line.entries().size();
  return static_cast<int>(requests);
}

absl::Status AdmissionGate::CheckLimits(const AdmissionRequest& request,
                                        std::vector<StandingLine>& standing) const {
  const AdmissionLine::Inside sum = inside();
  const struct {
    absl::string_view what;
    int64_t inside, asked, limit;
    int64_t (*of)(const LineEntry&);  // what is free when it has left
  } table[] = {
      {"requests", CountRequests(), 1, options_.max_requests,
       [](const LineEntry&) { return int64_t{1}; }},
      {"bytes", bytes_inside(), request.bytes, options_.max_bytes,
       [](const LineEntry& entry) { return entry.bytes; }},
      {"samples", sum.samples, request.shape.samples, options_.max_samples,
       [](const LineEntry& entry) { return int64_t{entry.shape.samples}; }},
      {"unet_rows", sum.unet_rows, request.shape.unet_rows(), options_.max_unet_rows_ahead,
       [](const LineEntry& entry) { return entry.unet_rows(); }},
  };
  for (const auto& row : table) {
    if (row.inside + row.asked <= row.limit) continue;
    absl::Status full = QueueFull(row.what, row.inside, row.asked, row.limit);
    if (row.asked > row.limit) return full;  // it never fits
    std::vector<std::pair<double, int64_t>> leaving;
    for (size_t i = 0; i < lines_.size(); ++i) {
      const std::vector<double> ends = lines_[i].Ends(standing[i]);
      for (size_t k = 0; k < ends.size(); ++k) {
        leaving.emplace_back(ends[k], row.of(lines_[i].entries()[k]));
      }
    }
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

// With the soonest retry that any line can give; that line keeps a place for it.
absl::Status AdmissionGate::Refuse(const AdmissionRequest& request,
                                   std::vector<StandingLine>& standing,
                                   absl::Span<const AdmissionLine::Offer> offers) {
  AdmissionLine::Refusal soonest;
  size_t at = 0;
  for (size_t i = 0; i < lines_.size(); ++i) {
    AdmissionLine::Refusal refusal = lines_[i].Refuse(request, offers[i], standing[i]);
    if (i > 0 && refusal.wait >= soonest.wait) continue;
    soonest = std::move(refusal);
    at = i;
  }
  const bool is_known_again = !request.only_asks && !request.request_id.empty();
  if (!is_known_again || soonest.wait == absl::InfiniteDuration()) return soonest.why;
  for (AdmissionLine& line : lines_) line.TakeBackPromise(request);
  lines_[at].Promise(request, offers[at], soonest.wait, standing[at].now());
  return soonest.why;
}

}  // namespace image_variations
