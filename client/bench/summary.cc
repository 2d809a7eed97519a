#include "client/bench/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench/statistics.h"

namespace image_variations::client {
namespace {

Distribution Describe(std::vector<absl::Duration> values) {
  Distribution result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  result.count = std::ssize(values);
  result.mean = std::accumulate(values.begin(), values.end(), absl::ZeroDuration()) / result.count;
  result.p50 = Percentile(values, 50);
  result.p90 = Percentile(values, 90);
  result.p95 = Percentile(values, 95);
  result.p99 = Percentile(values, 99);
  result.max = values.back();
  return result;
}

void CountEndings(const History& history, absl::Duration useful, LoadSummary& summary) {
  std::map<std::string, std::vector<absl::Duration>> refusals;
  for (const RequestRecord& record : history.records) {
    summary.retries += record.attempts - 1;
    summary.retries_admitted += record.retries_admitted;
    if (!record.answered) {
      ++summary.unanswered;
    } else if (record.finished()) {
      ++summary.finished;
      summary.in_time += record.latency() <= useful ? 1 : 0;
      summary.generated += record.generated;
      summary.filtered += record.filtered;
      summary.failed_samples += record.failed;
    } else if (record.refused) {
      refusals[record.reason].push_back(record.time_to_answer);
      summary.refusal_times.push_back(record.time_to_answer);
    } else if (record.given_up && absl::IsCancelled(record.status)) {
      ++summary.given_up;
    } else {
      ++summary.failures[record.reason];
    }
  }
  for (auto& [reason, times] : refusals) summary.refusals[reason] = Describe(std::move(times));
  std::sort(summary.refusal_times.begin(), summary.refusal_times.end());
}

void DescribeTimes(const History& history, LoadSummary& summary) {
  std::vector<absl::Duration> latencies, lateness;
  for (const RequestRecord& record : history.records) {
    lateness.push_back(record.sent - record.due);
    if (record.finished()) latencies.push_back(record.latency());
  }
  summary.latency = Describe(std::move(latencies));
  summary.lateness = Describe(std::move(lateness));
}

void DescribePredictions(const History& history, LoadSummary& summary) {
  std::vector<double> errors;
  for (const RequestRecord& record : history.records) {
    if (!record.finished() || record.predicted_time <= absl::ZeroDuration()) continue;
    errors.push_back(
        std::abs(absl::FDivDuration(record.predicted_time - record.real_time, record.real_time)));
  }
  if (errors.empty()) return;
  std::sort(errors.begin(), errors.end());
  summary.prediction_error_median = Percentile(errors, 50);
  summary.prediction_error_p90 = Percentile(errors, 90);
}

void DescribeUnetCalls(const History& history, LoadSummary& summary) {
  double rows = 0, calls = 0;
  for (const RequestRecord& record : history.records) {
    if (!record.finished() || record.mean_batch_rows <= 0) continue;
    rows += static_cast<double>(record.unet_rows);
    calls += static_cast<double>(record.unet_rows) / record.mean_batch_rows;
  }
  if (calls > 0) summary.rows_per_unet_call = rows / calls;
}

void DescribeRates(LoadSummary& summary) {
  const double seconds = absl::ToDoubleSeconds(summary.elapsed);
  if (seconds <= 0) return;
  summary.sent_per_second = static_cast<double>(summary.sent) / seconds;
  summary.finished_per_second = static_cast<double>(summary.finished) / seconds;
  summary.variations_per_second = static_cast<double>(summary.generated) / seconds;
  summary.goodput = static_cast<double>(summary.in_time) / seconds;
}

// The latency that `percentile` of all requests had; infinite where they had no variations.
absl::Duration LatencyOfAll(const History& history, double percentile) {
  std::vector<absl::Duration> latencies;
  for (const RequestRecord& record : history.records) {
    latencies.push_back(record.finished() ? record.latency() : absl::InfiniteDuration());
  }
  std::sort(latencies.begin(), latencies.end());
  return latencies.empty() ? absl::InfiniteDuration() : Percentile(latencies, percentile);
}

void JudgeLatency(const History& history, const LoadTargets& targets, Verdict& verdict) {
  const absl::Duration reached = LatencyOfAll(history, targets.percentile);
  const int64_t sent = std::ssize(history.records);
  const int64_t late = std::count_if(
      history.records.begin(), history.records.end(), [&](const RequestRecord& record) {
        return !record.finished() || record.latency() > targets.latency;
      });
  if (reached > targets.latency) {
    verdict.problems.push_back(
        reached == absl::InfiniteDuration()
            ? absl::StrFormat("latency p%g has no end: too few of %d requests finished",
                              targets.percentile, sent)
            : absl::StrFormat("latency p%g is %s, target %s", targets.percentile,
                              FormatTime(reached), FormatTime(targets.latency)));
  } else if (const int64_t needed = RequestsNeeded(targets.percentile, late); sent < needed) {
    verdict.problems.push_back(absl::StrFormat(
        "%d of %d requests missed %s: 99 %% confidence needs %d requests with no more", late, sent,
        FormatTime(targets.latency), needed));
  }
}

Verdict Judge(const History& history, const LoadTargets& targets, const LoadSummary& summary) {
  Verdict verdict;
  const auto note = [&](std::string problem) { verdict.problems.push_back(std::move(problem)); };
  if (history.interrupted) note("interrupted");
  if (history.elapsed < targets.min_duration) {
    note(absl::StrFormat("ran %s, at least %s", FormatTime(history.elapsed),
                         FormatTime(targets.min_duration)));
  }
  if (summary.sent < targets.min_requests) {
    note(absl::StrFormat("%d requests, at least %d", summary.sent, targets.min_requests));
  }
  JudgeLatency(history, targets, verdict);
  if (summary.unanswered > 0) note(absl::StrCat(summary.unanswered, " requests have no answer"));
  if (summary.surplus_answers > 0) {
    note(absl::StrCat(summary.surplus_answers, " answers belong to no request that waits"));
  }
  if (summary.mistaken_answers > 0) {
    note(absl::StrCat(summary.mistaken_answers, " answers have the id of another request"));
  }
  if (summary.differing_variations > 0) {
    note(absl::StrCat(summary.differing_variations, " variations differ from their repetition"));
  }
  verdict.valid = verdict.problems.empty();
  return verdict;
}

}  // namespace

LoadSummary Summarize(const History& history, const LoadTargets& targets) {
  LoadSummary summary{.elapsed = history.elapsed,
                      .interrupted = history.interrupted,
                      .sent = std::ssize(history.records),
                      .surplus_answers = history.surplus_answers,
                      .mistaken_answers = history.mistaken_answers,
                      .compared_variations = history.compared_variations,
                      .differing_variations = history.differing_variations};
  const bool has_deadline = targets.deadline < absl::InfiniteDuration();
  CountEndings(history, has_deadline ? targets.deadline : targets.latency, summary);
  DescribeTimes(history, summary);
  DescribePredictions(history, summary);
  DescribeUnetCalls(history, summary);
  DescribeRates(summary);
  if (targets.latency < absl::InfiniteDuration()) {
    summary.verdict = Judge(history, targets, summary);
  }
  return summary;
}

std::string FormatTime(absl::Duration time) {
  const double seconds = absl::ToDoubleSeconds(time);
  const bool as_milliseconds = seconds < 0.9995;
  const double value = as_milliseconds ? 1e3 * seconds : seconds;
  const char* unit = as_milliseconds ? "ms" : "s";
  if (value < 9.995) return absl::StrFormat("%.2f %s", value, unit);
  if (value < 99.95) return absl::StrFormat("%.1f %s", value, unit);
  return absl::StrFormat("%.0f %s", value, unit);
}

}  // namespace image_variations::client
