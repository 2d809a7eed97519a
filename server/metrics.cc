#include "server/metrics.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr char kService[] = "imagevariations.v1.VariationService";

// From a step of a small model to a picture on a CPU.
const prometheus::Histogram::BucketBoundaries& Seconds() {
  static const auto* const kBounds = new prometheus::Histogram::BucketBoundaries{
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
      1,     2.5,    5,     10,   30,    60,   120, 300,  600};
  return *kBounds;
}

// "OK", "InvalidArgument": as go-grpc-middleware writes codes.
std::string CodeName(const absl::Status& status) {
  const std::string upper = absl::StatusCodeToString(status.code());  // INVALID_ARGUMENT
  if (status.ok()) return upper;
  std::string name;
  bool starts_word = true;
  for (const char c : upper) {
    if (c != '_')
      name.push_back(starts_word ? c : absl::ascii_tolower(static_cast<unsigned char>(c)));
    starts_word = c == '_';
  }
  return name;
}

const char* OutcomeName(SampleOutcome outcome) {
  switch (outcome) {
    case SampleOutcome::kGenerated:
      return "generated";
    case SampleOutcome::kFiltered:
      return "filtered";
    case SampleOutcome::kFailed:
      return "failed";
    case SampleOutcome::kCancelled:
      return "cancelled";
    case SampleOutcome::kExpired:
      return "expired";
  }
  return "";
}

}  // namespace

Metrics::Metrics()
    : rpcs_started_(Counters("grpc_server_started_total", "RPCs that began.")),
      rpcs_handled_(Counters("grpc_server_handled_total", "RPCs that ended, by code.")),
      rpc_seconds_(Histograms("grpc_server_handling_seconds", "Time from an RPC's begin to end.")),
      requests_(Counters("image_variations_requests_total",
                         "Requests for variations that ended, by code and reason.")),
      refusals_(Counters("image_variations_admission_rejected_total",
                         "Requests that were refused before any work, by reason.")),
      stage_seconds_(Histograms("image_variations_stage_duration_seconds",
                                "Time of one run of a stage, whatever it was shared by.")),
      samples_(Counters("image_variations_images_total",
                        "Pictures asked for, by what became of "
                        "them.")),
      model_(Gauges("image_variations_model_info", "1, with what is loaded as labels.")),
      connections_refused_(Counters("image_variations_connections_refused_total",
                                    "Connections closed at once because there were too many.")
                               .Add({})),
      requests_in_flight_(Gauges("image_variations_requests_in_flight",
                                 "Requests for variations that have not ended.")
                              .Add({})),
      samples_running_(
          Gauges("image_variations_samples_running", "Pictures that hold latents.").Add({})),
      samples_waiting_(
          Gauges("image_variations_samples_waiting", "Pictures in line without latents.").Add({})),
      device_lost_(Gauges("image_variations_device_lost", "1 when the device is gone.").Add({})),
      requests_repeated_(Counters("image_variations_requests_repeated_total",
                                  "Requests that shared the work of an earlier one with their "
                                  "request_id, or got its answer again.")
                             .Add({})),
      unet_calls_(Counters("image_variations_unet_steps_total", "UNet calls.").Add({})),
      unet_rows_(Counters("image_variations_unet_rows_total",
                          "Rows of UNet calls; by unet_steps_total: rows per call.")
                     .Add({})),
      padded_rows_(Counters("image_variations_unet_rows_padded_total",
                            "Rows of UNet calls that held no picture.")
                       .Add({})),
      out_of_memory_(Counters("image_variations_out_of_device_memory_total",
                              "UNet calls that were split for want of device memory.")
                         .Add({})),
      queue_seconds_(Histograms("image_variations_queue_wait_seconds",
                                "Time from submission to a request's first stage.")
                         .Add({}, Seconds())),
      admission_error_seconds_(
          Histograms("image_variations_admission_error_seconds",
                     "How far a request's time was from the prediction at its admission.")
              .Add({}, Seconds())) {}

void Metrics::OnRpcStarted(absl::string_view method, absl::string_view type) {
  rpcs_started_
      .Add({{"grpc_type", std::string(type)},
            {"grpc_service", kService},
            {"grpc_method", std::string(method)}})
      .Increment();
}

void Metrics::OnRpcHandled(absl::string_view method, absl::string_view type,
                           const absl::Status& status, absl::Duration time) {
  prometheus::Labels labels = {{"grpc_type", std::string(type)},
                               {"grpc_service", kService},
                               {"grpc_method", std::string(method)}};
  rpc_seconds_.Add(labels, Seconds()).Observe(absl::ToDoubleSeconds(time));
  labels["grpc_code"] = CodeName(status);
  rpcs_handled_.Add(labels).Increment();
}

void Metrics::OnRequestEnded(const absl::Status& status, bool was_admitted) {
  requests_in_flight_.Decrement();
  requests_.Add({{"code", CodeName(status)}, {"reason", ReasonOf(status)}}).Increment();
  if (!was_admitted) refusals_.Add({{"reason", ReasonOf(status)}}).Increment();
}

void Metrics::OnRequestRefused(const absl::Status& status) {
  OnRequestStarted();
  OnRequestEnded(status, /*was_admitted=*/false);
}

void Metrics::OnRequestServed(const JobMetrics& job, absl::Duration predicted,
                              absl::Duration actual) {
  queue_seconds_.Observe(absl::ToDoubleSeconds(job.queue_time));
  admission_error_seconds_.Observe(absl::ToDoubleSeconds(absl::AbsDuration(actual - predicted)));
}

void Metrics::OnImageDecoded(absl::Duration time) {
  Stage("decode").Observe(absl::ToDoubleSeconds(time));
}

void Metrics::OnImageEncoded(absl::Duration time) {
  Stage("encode").Observe(absl::ToDoubleSeconds(time));
}

void Metrics::SetModel(const ModelInfo& model, absl::string_view version) {
  model_
      .Add({{"model_id", model.model_id},
            {"device", model.device},
            {"dtype", model.dtype},
            {"fingerprint", model.fingerprint},
            {"version", std::string(version)}})
      .Set(1);
}

void Metrics::OnTick(const TickReport& tick) {
  samples_running_.Set(tick.running_samples);
  samples_waiting_.Set(tick.waiting_samples);
  if (tick.unet_rows > 0) {
    unet_calls_.Increment();
    unet_rows_.Increment(tick.unet_rows);
    padded_rows_.Increment(tick.padded_rows - tick.unet_rows);
    Stage("unet").Observe(absl::ToDoubleSeconds(tick.denoise_time));
  }
  if (tick.embedded_jobs > 0) Stage("embed").Observe(absl::ToDoubleSeconds(tick.embed_time));
  if (tick.decoded_samples > 0) {
    Stage("vae").Observe(absl::ToDoubleSeconds(tick.latents_decode_time));
    Stage("safety").Observe(absl::ToDoubleSeconds(tick.safety_time));
  }
}

void Metrics::OnSampleEnd(SampleOutcome outcome) {
  samples_.Add({{"result", OutcomeName(outcome)}}).Increment();
}

void Metrics::OnOutOfMemory(int /*rows_that_failed*/) { out_of_memory_.Increment(); }

void Metrics::OnDeviceLost(const absl::Status& /*why*/) { device_lost_.Set(1); }

std::string Metrics::Markdown() const {
  return absl::StrCat("| Metric | Type | What |\n|---|---|---|\n", markdown_rows_);
}

prometheus::Family<prometheus::Counter>& Metrics::Counters(const char* name, const char* help) {
  Describe(name, "counter", help);
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
}

prometheus::Family<prometheus::Gauge>& Metrics::Gauges(const char* name, const char* help) {
  Describe(name, "gauge", help);
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
}

prometheus::Family<prometheus::Histogram>& Metrics::Histograms(const char* name, const char* help) {
  Describe(name, "histogram", help);
  return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
}

void Metrics::Describe(const char* name, const char* type, const char* help) {
  absl::StrAppend(&markdown_rows_, "| `", name, "` | ", type, " | ", help, " |\n");
}

prometheus::Histogram& Metrics::Stage(const char* stage) {
  return stage_seconds_.Add({{"stage", stage}}, Seconds());
}

}  // namespace image_variations
