#include "client/bench/load_run.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "client/bench/random_stream.h"
#include "client/bench/statistics.h"
#include "client/error_details.h"
#include "client/request_id.h"
#include "client/retry.h"

namespace image_variations::client {
namespace {

constexpr absl::Duration kWatchInterval = absl::Milliseconds(100);
// How long after its deadline a request's answer is waited for: then it is lost.
constexpr absl::Duration kGrace = absl::Seconds(30);

PacerOptions MakePacerOptions(const LoadOptions& options) {
  PacerOptions pacer = options.pacer;
  pacer.open_end = options.targets.latency < absl::InfiniteDuration() &&
                   pacer.scenario != Scenario::kOffline &&
                   pacer.duration < absl::InfiniteDuration();
  return pacer;
}

// Whether a run that goes on until it can be judged has seen enough.
class Enough {
 public:
  explicit Enough(const LoadTargets& targets)
      : targets_(targets), needed_(RequestsNeeded(targets.percentile, 0)), most_(4 * needed_) {}

  void OnEnded(bool late) {
    ++ended_;
    if (!late) return;
    needed_ = RequestsNeeded(targets_.percentile, ++late_);
  }

  bool IsReached() const {
    const double share = 1 - targets_.percentile / 100;
    const bool hopeless =
        static_cast<double>(late_) > share * static_cast<double>(most_) ||
        (ended_ >= most_ / 4 && static_cast<double>(late_) > share * static_cast<double>(ended_));
    return hopeless || ended_ >= most_ || ended_ >= std::max(needed_, targets_.min_requests);
  }

 private:
  const LoadTargets& targets_;
  int64_t needed_;
  const int64_t most_;
  int64_t ended_ = 0, late_ = 0;
};

class LoadRun {
 public:
  LoadRun(const LoadOptions& options, const std::vector<VariationRequest>& requests,
          LoadTarget& target, const LoadWatch& watch)
      : options_(options),
        requests_(requests),
        target_(target),
        watch_(watch),
        pacer_options_(MakePacerOptions(options)),
        pacer_(pacer_options_),
        enough_(options.targets),
        choices_(options.pacer.seed, Purpose::kChoice),
        jitter_(options.pacer.seed, Purpose::kRetries),
        cancels_(options.pacer.seed, Purpose::kCancels),
        begin_(target.Now()) {}

  History Run();

 private:
  // One attempt on its way.
  struct Attempt {
    size_t record = 0;  // index of its request
    absl::Time sent = {};
  };
  // Of a record, what only sending needs.
  struct Request {
    size_t choice = 0;  // index in requests_
    std::string request_id = {};
    absl::Time deadline = {};
  };

  void StopWhenJudged();
  void SendDue();
  void Begin(absl::Duration due);
  void Send(size_t record);
  void GiveUpLater(int64_t id);
  void CancelDue();
  void Take(const Answer&);
  void TakeResult(const Answer&, const Request&, RequestRecord&);
  void CompareBytes(const VariationResult&, size_t choice);
  bool RetryLater(const Answer&, size_t record);
  void Watch();
  bool IsLost(absl::Time now) const;
  absl::Time NextWake() const;
  bool IsOver() const { return !pacer_.next() && running_.empty() && retries_.empty(); }
  absl::Duration Since(absl::Time time) const { return time - begin_; }

  const LoadOptions& options_;
  const std::vector<VariationRequest>& requests_;
  LoadTarget& target_;
  const LoadWatch& watch_;
  const PacerOptions pacer_options_;
  Pacer pacer_;
  Enough enough_;
  RandomStream choices_, jitter_, cancels_;
  const absl::Time begin_;

  History history_;
  std::vector<Request> sent_requests_;  // by index of the record
  std::map<int64_t, Attempt> running_;
  int64_t next_id_ = 0;
  std::multimap<absl::Time, size_t> retries_;       // when -> record
  std::multimap<absl::Time, int64_t> cancels_due_;  // when -> id
  absl::Time latest_deadline_ = absl::InfinitePast();
  absl::Time next_watch_ = absl::InfinitePast();
  LoadProgress progress_;
  absl::Duration total_latency_ = absl::ZeroDuration();     // of finished requests
  std::map<size_t, std::vector<Variation>> first_results_;  // by choice
};

History LoadRun::Run() {
  while (true) {
    StopWhenJudged();
    SendDue();
    CancelDue();
    Watch();
    if (IsOver() || IsLost(target_.Now())) break;
    for (const Answer& answer : target_.WaitForAnswers(NextWake())) Take(answer);
  }
  for (const auto& [id, attempt] : running_) target_.Cancel(id);
  if (!history_.interrupted && options_.pacer.duration < absl::InfiniteDuration() &&
      std::ssize(history_.records) < options_.pacer.max_requests) {
    history_.elapsed = std::max(history_.elapsed, options_.pacer.duration);
  }
  return std::move(history_);
}

void LoadRun::StopWhenJudged() {
  if (!pacer_options_.open_end || Since(target_.Now()) < pacer_options_.duration) return;
  if (enough_.IsReached()) pacer_.Stop();
}

void LoadRun::SendDue() {
  // Between any two: what is due next may have become due while the last one was sent.
  while (true) {
    const absl::Duration now = Since(target_.Now());
    if (!retries_.empty() && Since(retries_.begin()->first) <= now) {
      Send(retries_.extract(retries_.begin()).mapped());
    } else if (const auto due = pacer_.next(); due && *due <= now) {
      pacer_.Pop();
      Begin(*due);
    } else {
      return;
    }
  }
}

void LoadRun::Begin(absl::Duration due) {
  history_.records.push_back({.due = due, .sent = Since(target_.Now())});
  sent_requests_.push_back({.choice = choices_.NextIndex(requests_.size()),
                            .request_id = NewRequestId(),
                            .deadline = begin_ + due + options_.deadline});
  latest_deadline_ = std::max(latest_deadline_, sent_requests_.back().deadline);
  ++progress_.sent;
  Send(history_.records.size() - 1);
}

void LoadRun::Send(size_t record) {
  const Request& sent = sent_requests_[record];
  VariationRequest request = requests_[sent.choice];
  request.request_id = sent.request_id;
  request.deadline = sent.deadline;
  history_.records[record].answered = false;
  ++history_.records[record].attempts;
  const int64_t id = next_id_++;
  running_[id] = {.record = record, .sent = target_.Now()};
  GiveUpLater(id);
  target_.Send(id, std::move(request));
}

void LoadRun::GiveUpLater(int64_t id) {
  if (options_.cancel_share <= 0 || cancels_.NextUnit() >= options_.cancel_share) return;
  const absl::Duration typical =
      progress_.finished > 0 ? total_latency_ / progress_.finished : absl::Milliseconds(100);
  cancels_due_.emplace(target_.Now() + typical * cancels_.NextUnit(), id);
}

void LoadRun::CancelDue() {
  while (!cancels_due_.empty() && cancels_due_.begin()->first <= target_.Now()) {
    const int64_t id = cancels_due_.extract(cancels_due_.begin()).mapped();
    const auto attempt = running_.find(id);
    if (attempt == running_.end()) continue;
    history_.records[attempt->second.record].given_up = true;
    target_.Cancel(id);
  }
}

void LoadRun::Take(const Answer& answer) {
  const auto found = running_.find(answer.id);
  if (found == running_.end()) {
    ++history_.surplus_answers;
    return;
  }
  const Attempt attempt = found->second;
  running_.erase(found);
  RequestRecord& record = history_.records[attempt.record];
  if (record.attempts > 1 && answer.admission) ++record.retries_admitted;
  record.answered = true;
  record.ended = Since(answer.at);
  record.time_to_answer = answer.at - attempt.sent;
  record.status = answer.result.status();
  TakeResult(answer, sent_requests_[attempt.record], record);
  if (RetryLater(answer, attempt.record)) return;
  progress_.refused += record.refused ? 1 : 0;
  enough_.OnEnded(!record.finished() || record.latency() > options_.targets.latency);
  history_.elapsed = std::max(history_.elapsed, record.ended);
  pacer_.OnEnded(record.ended);
}

void LoadRun::TakeResult(const Answer& answer, const Request& request, RequestRecord& record) {
  record.admitted = answer.admission.has_value();
  if (answer.admission) {
    record.predicted_time = answer.admission->admitted.predicted_finish;
    record.real_time = answer.at - answer.admission->at;
  }
  if (!answer.result.ok()) {
    const std::string reason = DecodeErrorDetails(record.status).reason;
    record.refused = !record.admitted && !reason.empty();
    record.reason = reason.empty() ? absl::StatusCodeToString(record.status.code()) : reason;
    return;
  }
  record.refused = false;
  record.reason.clear();
  ++progress_.finished;
  total_latency_ += record.latency();
  const VariationResult& result = *answer.result;
  for (const Variation& variation : result.variations) {
    record.generated += variation.outcome == Outcome::kGenerated ? 1 : 0;
    record.filtered += variation.outcome == Outcome::kFiltered ? 1 : 0;
    record.failed += variation.outcome == Outcome::kFailed ? 1 : 0;
  }
  record.unet_rows = result.metrics.unet_rows;
  record.mean_batch_rows = result.metrics.mean_batch_rows;
  if (result.parameters.request_id != request.request_id) ++history_.mistaken_answers;
  if (options_.check_bytes) CompareBytes(result, request.choice);
}

void LoadRun::CompareBytes(const VariationResult& result, size_t choice) {
  const auto [first, is_new] = first_results_.try_emplace(choice, result.variations);
  if (is_new) return;
  for (size_t i = 0; i < result.variations.size(); ++i) {
    ++history_.compared_variations;
    const bool same = i < first->second.size() &&
                      first->second[i].outcome == result.variations[i].outcome &&
                      first->second[i].image == result.variations[i].image;
    history_.differing_variations += same ? 0 : 1;
  }
}

bool LoadRun::RetryLater(const Answer& answer, size_t record) {
  if (answer.result.ok() || answer.admission || history_.interrupted) return false;
  const auto wait =
      WaitBeforeRetry(options_.retry, answer.result.status(), history_.records[record].attempts,
                      sent_requests_[record].deadline - answer.at, jitter_.NextUnit());
  if (!wait) return false;
  retries_.emplace(answer.at + *wait, record);
  return true;
}

void LoadRun::Watch() {
  const absl::Time now = target_.Now();
  if (watch_.interrupted != nullptr && *watch_.interrupted && !history_.interrupted) {
    history_.interrupted = true;
    pacer_.Stop();
    retries_.clear();
    for (const auto& [id, attempt] : running_) target_.Cancel(id);
    latest_deadline_ = std::min(latest_deadline_, now);
  }
  if (!watch_.on_progress || now < next_watch_) return;
  next_watch_ = now + kWatchInterval;
  progress_.elapsed = Since(now);
  progress_.running = std::ssize(running_);
  watch_.on_progress(progress_);
}

// Nothing is due any more, and what runs should have been answered long ago.
bool LoadRun::IsLost(absl::Time now) const {
  return !pacer_.next() && retries_.empty() && now > latest_deadline_ + kGrace;
}

absl::Time LoadRun::NextWake() const {
  absl::Time wake = absl::InfiniteFuture();
  if (const auto due = pacer_.next()) wake = begin_ + *due;
  if (const absl::Time end = begin_ + pacer_options_.duration; target_.Now() < end) {
    wake = std::min(wake, end);
  }
  if (!retries_.empty()) wake = std::min(wake, retries_.begin()->first);
  if (!cancels_due_.empty()) wake = std::min(wake, cancels_due_.begin()->first);
  if (watch_.interrupted != nullptr || watch_.on_progress) {
    wake = std::min(wake, target_.Now() + kWatchInterval);
  }
  if (pacer_.next()) return wake;
  return std::min(wake, latest_deadline_ + kGrace + absl::Milliseconds(1));
}

}  // namespace

History RunLoad(const LoadOptions& options, const std::vector<VariationRequest>& requests,
                LoadTarget& target, const LoadWatch& watch) {
  return LoadRun(options, requests, target, watch).Run();
}

}  // namespace image_variations::client
