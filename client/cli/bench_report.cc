#include "client/cli/bench_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/bench/latency_plot.h"

namespace image_variations::client {
namespace {

// "1, 2 or 4 samples"
template <typename Value>
void AppendChoice(const std::vector<Value>& values, absl::string_view unit,
                  std::vector<std::string>& parts) {
  if (values.empty()) return;
  std::string text = absl::StrJoin(values.begin(), values.end() - 1, ", ");
  if (!text.empty()) text += " or ";
  absl::StrAppend(&text, values.back(), unit);
  parts.push_back(text);
}

std::vector<std::string> SizeNames(const RequestMix& mix) {
  std::vector<std::string> names;
  for (const PictureSize& size : mix.sizes) {
    names.push_back(absl::StrCat(size.width, "x", size.height));
  }
  return names;
}

std::string DescribeScenario(const BenchRun& run, const BenchArguments& arguments) {
  const PacerOptions& pacer = arguments.load.pacer;
  switch (pacer.scenario) {
    case Scenario::kClosedLoop:
      return absl::StrCat(pacer.concurrency, " callers");
    case Scenario::kOffline:
      return absl::StrCat(pacer.max_requests, " at once");
    case Scenario::kOpenLoop:
      break;
  }
  return absl::StrFormat("%g/s", run.rate);
}

const char* NameOf(const std::optional<Verdict>& verdict) {
  if (!verdict) return "-";
  return verdict->valid ? "VALID" : "INVALID";
}

std::string TimeOrDash(const Distribution& times, absl::Duration Distribution::*value) {
  return times.count == 0 ? "-" : FormatTime(times.*value);
}

int64_t CountRefused(const LoadSummary& summary) {
  int64_t refused = 0;
  for (const auto& [reason, times] : summary.refusals) refused += times.count;
  return refused;
}

int64_t CountFailed(const LoadSummary& summary) {
  int64_t failed = 0;
  for (const auto& [reason, count] : summary.failures) failed += count;
  return failed;
}

// The slowest kind of refusal.
std::string RefusalTime(const LoadSummary& summary) {
  absl::Duration slowest = absl::ZeroDuration();
  for (const auto& [reason, times] : summary.refusals) slowest = std::max(slowest, times.p99);
  return summary.refusals.empty() ? "-" : FormatTime(slowest);
}

double Percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

void AppendLine(std::string& text, absl::string_view name, absl::string_view value) {
  absl::StrAppendFormat(&text, "  %-11s %s\n", name, value);
}

void AppendDistribution(std::string& text, absl::string_view name, const Distribution& times) {
  if (times.count == 0) return;
  AppendLine(text, name,
             absl::StrCat("p50 ", FormatTime(times.p50), ", p90 ", FormatTime(times.p90), ", p95 ",
                          FormatTime(times.p95), ", p99 ", FormatTime(times.p99), ", max ",
                          FormatTime(times.max), ", mean ", FormatTime(times.mean)));
}

void AppendVerdict(std::string& text, const LoadSummary& summary, const LoadTargets& targets) {
  if (!summary.verdict) return;
  absl::StrAppendFormat(&text, "%s: %g %% of the requests within %s\n", NameOf(summary.verdict),
                        targets.percentile, FormatTime(targets.latency));
  for (const std::string& problem : summary.verdict->problems) {
    absl::StrAppend(&text, "  because     ", problem, "\n");
  }
}

void AppendEndings(std::string& text, const LoadSummary& summary) {
  for (const auto& [reason, times] : summary.refusals) {
    AppendLine(text, "refused",
               absl::StrCat(times.count, " ", reason, ", answered in p50 ", FormatTime(times.p50),
                            ", p99 ", FormatTime(times.p99)));
  }
  for (const auto& [reason, count] : summary.failures) {
    AppendLine(text, "failed", absl::StrCat(count, " ", reason));
  }
  if (summary.given_up > 0) {
    AppendLine(text, "given up", absl::StrCat(summary.given_up, " by the caller"));
  }
  if (summary.retries > 0) {
    AppendLine(text, "retries",
               absl::StrFormat("%d, of which %d were taken (%.0f %%)", summary.retries,
                               summary.retries_admitted,
                               Percent(summary.retries_admitted, summary.retries)));
  }
}

}  // namespace

std::string DescribeLoad(const ModelDescription& model, const BenchArguments& arguments) {
  const RequestMix& mix = arguments.mix;
  std::vector<std::string> parts;
  parts.push_back(absl::StrCat(arguments.pictures.size(),
                               arguments.pictures.size() == 1 ? " picture" : " pictures"));
  AppendChoice(mix.sample_counts, mix.sample_counts == std::vector<int>{1} ? " sample" : " samples",
               parts);
  AppendChoice(mix.step_counts, " steps", parts);
  AppendChoice(mix.samplers, "", parts);
  AppendChoice(mix.guidance_scales, " guidance", parts);
  AppendChoice(SizeNames(mix), " pixels", parts);
  if (mix.priorities.size() == 1) {
    parts.push_back(mix.priorities[0] == Priority::kBatch ? "batch" : "interactive");
  } else if (mix.priorities.size() > 1) {
    parts.push_back("both priorities");
  }
  std::string text = absl::StrCat(model.model_id, " on ", model.device, ", ", model.dtype, ": ",
                                  absl::StrJoin(parts, ", "), "; ");
  if (arguments.load.deadline < absl::InfiniteDuration()) {
    absl::StrAppend(&text, "deadline ", absl::FormatDuration(arguments.load.deadline), ", ");
  }
  return absl::StrCat(text, "seed ", arguments.load.pacer.seed);
}

std::string TableHead(const BenchArguments&) {
  return absl::StrFormat("%12s  %-7s  %9s  %8s  %8s %8s %8s  %8s %8s  %7s\n", "offered", "verdict",
                         "goodput/s", "in time", "p50", "p90", "p99", "refused", "in (p99)",
                         "failed");
}

std::string TableRow(const BenchRun& run, const BenchArguments& arguments) {
  const LoadSummary& summary = run.summary;
  return absl::StrFormat("%12s  %-7s  %9.2f  %6.1f %%  %8s %8s %8s  %8d %8s  %7d\n",
                         DescribeScenario(run, arguments), NameOf(summary.verdict), summary.goodput,
                         Percent(summary.in_time, summary.sent),
                         TimeOrDash(summary.latency, &Distribution::p50),
                         TimeOrDash(summary.latency, &Distribution::p90),
                         TimeOrDash(summary.latency, &Distribution::p99), CountRefused(summary),
                         RefusalTime(summary), CountFailed(summary));
}

std::string DescribeRun(const BenchRun& run, const BenchArguments& arguments) {
  const LoadSummary& summary = run.summary;
  std::string text = absl::StrCat(DescribeScenario(run, arguments), " ");
  AppendVerdict(text, summary, arguments.targets);
  if (!summary.verdict) text += "\n";
  AppendLine(text, "sent",
             absl::StrFormat("%d requests in %s, %.2f/s; at most %s late", summary.sent,
                             FormatTime(summary.elapsed), summary.sent_per_second,
                             FormatTime(summary.lateness.max)));
  AppendLine(
      text, "finished",
      absl::StrFormat("%d requests, %.2f/s; %d variations, %.2f/s, %d blocked, %d failed",
                      summary.finished, summary.finished_per_second, summary.generated,
                      summary.variations_per_second, summary.filtered, summary.failed_samples));
  AppendLine(text, "in time",
             absl::StrFormat("%d requests, %.1f %% of all, %.2f/s", summary.in_time,
                             Percent(summary.in_time, summary.sent), summary.goodput));
  AppendDistribution(text, "latency", summary.latency);
  AppendEndings(text, summary);
  if (summary.prediction_error_median) {
    AppendLine(text, "predictions",
               absl::StrFormat("of the finish are off by %.1f %% (median), %.1f %% (p90)",
                               100 * *summary.prediction_error_median,
                               100 * *summary.prediction_error_p90));
  }
  if (summary.rows_per_unet_call) {
    AppendLine(text, "UNet calls",
               absl::StrFormat("%.1f rows on average", *summary.rows_per_unet_call));
  }
  return text;
}

std::string DescribeHistory(const std::vector<BenchRun>& runs) {
  LoadSummary total;
  for (const BenchRun& run : runs) {
    const LoadSummary& summary = run.summary;
    total.sent += summary.sent;
    total.unanswered += summary.unanswered;
    total.surplus_answers += summary.surplus_answers;
    total.mistaken_answers += summary.mistaken_answers;
    total.compared_variations += summary.compared_variations;
    total.differing_variations += summary.differing_variations;
  }
  std::string text = absl::StrCat("history: ", total.sent, " requests, ");
  if (total.unanswered + total.surplus_answers + total.mistaken_answers == 0) {
    text += "each answered once";
  } else {
    absl::StrAppend(&text, total.unanswered, " without an answer, ", total.surplus_answers,
                    " answers too many, ", total.mistaken_answers, " answers of another request");
  }
  if (total.compared_variations > 0) {
    absl::StrAppend(&text, "; ", total.compared_variations,
                    " variations compared with an equal one, ", total.differing_variations,
                    " differ");
  }
  return text + "\n";
}

std::string DrawPlot(const BenchReport& report) {
  const LoadTargets& targets = report.arguments.targets;
  LatencyPlot plot{.subtitle = DescribeLoad(report.model, report.arguments),
                   .target = targets.latency,
                   .highest_valid_rate = report.highest_valid_rate};
  plot.target_name =
      absl::StrFormat("p%g within %s", targets.percentile, absl::FormatDuration(targets.latency));
  for (const BenchRun& run : report.runs) {
    plot.runs.push_back({.rate = run.rate,
                         .latency = run.summary.latency,
                         .goodput = run.summary.goodput,
                         .valid = !run.summary.verdict || run.summary.verdict->valid});
  }
  return DrawLatencyPlot(std::move(plot));
}

}  // namespace image_variations::client
