#include <nlohmann/json.hpp>

#include "absl/time/time.h"
#include "client/cli/bench_report.h"

namespace image_variations::client {
namespace {

using Json = nlohmann::ordered_json;

double Seconds(absl::Duration time) { return absl::ToDoubleSeconds(time); }

bool IsFinite(absl::Duration time) { return time < absl::InfiniteDuration(); }

const char* NameOf(Scenario scenario) {
  switch (scenario) {
    case Scenario::kClosedLoop:
      return "closed_loop";
    case Scenario::kOffline:
      return "offline";
    case Scenario::kOpenLoop:
      break;
  }
  return "open_loop";
}

Json ToJson(const Distribution& times) {
  Json json = {{"count", times.count}};
  if (times.count == 0) return json;
  json["mean"] = Seconds(times.mean);
  json["p50"] = Seconds(times.p50);
  json["p90"] = Seconds(times.p90);
  json["p95"] = Seconds(times.p95);
  json["p99"] = Seconds(times.p99);
  json["max"] = Seconds(times.max);
  return json;
}

Json SizesToJson(const std::vector<PictureSize>& sizes) {
  Json json = Json::array();
  for (const PictureSize& size : sizes) json.push_back({size.width, size.height});
  return json;
}

Json PrioritiesToJson(const std::vector<Priority>& priorities) {
  Json json = Json::array();
  for (const Priority priority : priorities) {
    json.push_back(priority == Priority::kBatch ? "batch" : "interactive");
  }
  return json;
}

Json LoadToJson(const BenchArguments& arguments) {
  const LoadOptions& load = arguments.load;
  const RequestMix& mix = arguments.mix;
  Json json = {{"scenario", NameOf(load.pacer.scenario)}, {"seed", load.pacer.seed}};
  if (load.pacer.scenario == Scenario::kClosedLoop) json["concurrency"] = load.pacer.concurrency;
  if (IsFinite(load.pacer.duration)) json["duration_seconds"] = Seconds(load.pacer.duration);
  if (load.pacer.max_requests < INT64_MAX) json["requests"] = load.pacer.max_requests;
  if (IsFinite(load.deadline)) json["deadline_seconds"] = Seconds(load.deadline);
  json["retries"] = load.retry.max_attempts - 1;
  json["cancel_share"] = load.cancel_share;
  json["connections"] = arguments.connections;
  json["pictures"] = arguments.pictures;
  json["distinct_requests"] = arguments.distinct;
  json["sample_counts"] = mix.sample_counts;
  json["step_counts"] = mix.step_counts;
  json["samplers"] = mix.samplers;
  json["guidance_scales"] = mix.guidance_scales;
  json["sizes"] = SizesToJson(mix.sizes);
  json["priorities"] = PrioritiesToJson(mix.priorities);
  return json;
}

Json TargetsToJson(const LoadTargets& targets) {
  return {{"latency_seconds", Seconds(targets.latency)},
          {"percentile", targets.percentile},
          {"min_duration_seconds", Seconds(targets.min_duration)},
          {"min_requests", targets.min_requests}};
}

Json EndingsToJson(const LoadSummary& summary) {
  Json refusals = Json::object();
  for (const auto& [reason, times] : summary.refusals) refusals[reason] = ToJson(times);
  // Each of them, so that percentiles of several runs together can be told.
  Json refusal_times = Json::array();
  for (const absl::Duration time : summary.refusal_times) refusal_times.push_back(Seconds(time));
  Json json = {{"sent", summary.sent},
               {"finished", summary.finished},
               {"in_time", summary.in_time},
               {"refused", refusals},
               {"refusal_seconds", refusal_times},
               {"failed", Json(summary.failures)},
               {"given_up", summary.given_up},
               {"retries", summary.retries},
               {"retries_admitted", summary.retries_admitted}};
  return json;
}

Json HistoryToJson(const LoadSummary& summary) {
  return {{"unanswered", summary.unanswered},
          {"surplus_answers", summary.surplus_answers},
          {"mistaken_answers", summary.mistaken_answers},
          {"compared_variations", summary.compared_variations},
          {"differing_variations", summary.differing_variations}};
}

Json RunToJson(const BenchRun& run) {
  const LoadSummary& summary = run.summary;
  Json json;
  if (run.rate > 0) json["rate"] = run.rate;
  json["elapsed_seconds"] = Seconds(summary.elapsed);
  json["interrupted"] = summary.interrupted;
  if (summary.verdict) {
    json["verdict"] = summary.verdict->valid ? "VALID" : "INVALID";
    json["problems"] = summary.verdict->problems;
  }
  json["requests"] = EndingsToJson(summary);
  json["variations"] = {{"generated", summary.generated},
                        {"filtered", summary.filtered},
                        {"failed", summary.failed_samples}};
  json["per_second"] = {{"sent", summary.sent_per_second},
                        {"finished", summary.finished_per_second},
                        {"goodput", summary.goodput},
                        {"variations", summary.variations_per_second}};
  json["latency_seconds"] = ToJson(summary.latency);
  json["sending_lateness_seconds"] = ToJson(summary.lateness);
  if (summary.prediction_error_median) {
    json["prediction_error"] = {{"median", *summary.prediction_error_median},
                                {"p90", *summary.prediction_error_p90}};
  }
  if (summary.rows_per_unet_call) json["rows_per_unet_call"] = *summary.rows_per_unet_call;
  json["history"] = HistoryToJson(summary);
  return json;
}

}  // namespace

std::string ToJson(const BenchReport& report) {
  Json json = {{"model",
                {{"model_id", report.model.model_id},
                 {"device", report.model.device},
                 {"dtype", report.model.dtype},
                 {"fingerprint", report.model.fingerprint},
                 {"server_version", report.model.server_version}}},
               {"load", LoadToJson(report.arguments)}};
  const LoadTargets& targets = report.arguments.targets;
  if (IsFinite(targets.latency)) json["targets"] = TargetsToJson(targets);
  json["runs"] = Json::array();
  for (const BenchRun& run : report.runs) json["runs"].push_back(RunToJson(run));
  if (report.highest_valid_rate) json["highest_valid_rate"] = *report.highest_valid_rate;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace image_variations::client
