#include "server/metrics.h"

#include <array>
#include <atomic>
#include <iterator>

#include "absl/strings/ascii.h"
#include "server/metric_registry.h"
#include "server/process_metrics.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr char kService[] = "imagevariations.v1.VariationService";
constexpr std::array<const char*, 2> kMethods[] = {{"GenerateVariations", "unary"},
                                                   {"StreamVariations", "server_stream"},
                                                   {"GetModel", "unary"},
                                                   {"GetServerStatus", "unary"}};
constexpr SampleOutcome kOutcomes[] = {SampleOutcome::kGenerated, SampleOutcome::kFiltered,
                                       SampleOutcome::kFailed, SampleOutcome::kCancelled,
                                       SampleOutcome::kExpired};
constexpr const char* kServerStages[] = {"decode", "encode"};
// Of refusals that an operator watches.
constexpr const char* kReasons[] = {
    reason::kInvalidField, reason::kImageUndecodable,    reason::kImageTooLarge,
    reason::kQueueFull,    reason::kDeadlineUnreachable, reason::kCallerLimit,
    reason::kDraining,     reason::kDeviceFailed,        reason::kTokenMissing,
    reason::kTokenInvalid};
constexpr int kCostRows[] = {1, 2, 4, 8, 16};

double Seconds(absl::Duration time) { return absl::ToDoubleSeconds(time); }

prometheus::Labels RpcLabels(absl::string_view method, absl::string_view type) {
  return {{"grpc_type", std::string(type)},
          {"grpc_service", kService},
          {"grpc_method", std::string(method)}};
}

// "OK", "InvalidArgument": as go-grpc-middleware writes codes.
std::string CodeName(const absl::Status& status) {
  std::string upper = absl::StatusCodeToString(status.code());  // INVALID_ARGUMENT
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

// Its pictures were not given to anybody.
bool IsWaste(SampleOutcome outcome) {
  return outcome != SampleOutcome::kGenerated && outcome != SampleOutcome::kFiltered;
}

}  // namespace

// Each metric, once, in the order of the docs.
struct Metrics::All {
  template <typename Metric>
  using Family = MetricRegistry::Family<Metric>;

  MetricRegistry registry;
  Family<prometheus::Counter>& rpcs_started =
      registry.Counters("grpc_server_started_total", "RPCs that began.");
  Family<prometheus::Counter>& rpcs_handled =
      registry.Counters("grpc_server_handled_total", "RPCs that ended, by grpc_code.");
  Family<prometheus::Counter>& messages_received = registry.Counters(
      "grpc_server_msg_received_total", "Messages that callers sent: one for each RPC.");
  Family<prometheus::Counter>& messages_sent = registry.Counters(
      "grpc_server_msg_sent_total", "Messages to callers: replies, and events of streams.");
  Family<prometheus::Counter>& requests = registry.Counters(
      "image_variations_requests_total", "Requests for variations that ended, by code and reason.");
  Family<prometheus::Counter>& refusals =
      registry.Counters("image_variations_admission_rejected_total",
                        "Requests that were refused before any work, by reason.");
  Family<prometheus::Counter>& samples = registry.Counters(
      "image_variations_images_total", "Pictures asked for, by result: what became of them.");
  Family<prometheus::Counter>& rows_wasted =
      registry.Counters("image_variations_unet_rows_wasted_total",
                        "Rows of UNet calls for pictures that nobody got, by result: they failed, "
                        "were cancelled or came too late.");
  Family<prometheus::Histogram>& rpc_seconds =
      registry.Histograms("grpc_server_handling_seconds", "Time from an RPC's begin to end.");
  Family<prometheus::Histogram>& stage_seconds =
      registry.Histograms("image_variations_stage_duration_seconds",
                          "Time of one run of a stage, whatever it was shared by.");
  Family<prometheus::Gauge>& model = registry.Gauges(
      "image_variations_model_info", "1, with what an engine has loaded as labels.");
  Family<prometheus::Gauge>& step_cost =
      registry.Gauges("image_variations_step_cost_seconds",
                      "Predicted time of a UNet call of so many rows, at the model's own size.");
  Family<prometheus::Gauge>& device_memory = registry.Gauges(
      "image_variations_device_memory_bytes",
      "Memory of the device, by kind: used, and its limit. On the CPU that of this process.");
  prometheus::Counter& connections_refused =
      registry.Counter("image_variations_connections_refused_total",
                       "Connections closed at once because there were too many.");
  prometheus::Counter& requests_repeated =
      registry.Counter("image_variations_requests_repeated_total",
                       "Requests that shared the work of an earlier one with their request_id, or "
                       "got its answer again.");
  Family<prometheus::Counter>& unet_calls =
      registry.Counters("image_variations_unet_steps_total", "UNet calls.");
  Family<prometheus::Counter>& unet_rows =
      registry.Counters("image_variations_unet_rows_total",
                        "Rows of UNet calls; by unet_steps_total: rows per call.");
  Family<prometheus::Counter>& padded_rows = registry.Counters(
      "image_variations_unet_rows_padded_total", "Rows of UNet calls that held no picture.");
  Family<prometheus::Counter>& batch_key_splits = registry.Counters(
      "image_variations_batch_key_splits_total",
      "UNet calls with rows left that a waiting picture of another size could have taken.");
  Family<prometheus::Counter>& out_of_memory =
      registry.Counters("image_variations_out_of_device_memory_total",
                        "UNet calls and decodes that were split for want of device memory.");
  prometheus::Gauge& serving =
      registry.Gauge("image_variations_serving", "1 while requests are taken.");
  prometheus::Gauge& reachable = registry.Gauge(
      "image_variations_port_reachable",
      "1 while the gRPC port answers a call from outside, as --health-listen tries.");
  Family<prometheus::Gauge>& device_lost =
      registry.Gauges("image_variations_device_lost", "1 when the device is gone.");
  prometheus::Gauge& requests_in_flight = registry.Gauge(
      "image_variations_requests_in_flight", "Requests for variations that have not ended.");
  Family<prometheus::Gauge>& samples_running =
      registry.Gauges("image_variations_samples_running", "Pictures that hold latents.");
  Family<prometheus::Gauge>& samples_waiting =
      registry.Gauges("image_variations_samples_waiting", "Pictures in line without latents.");
  prometheus::Gauge& backlog =
      registry.Gauge("image_variations_predicted_backlog_seconds",
                     "Predicted time of all work that is in; of several engines the mean.");
  prometheus::Gauge& slowdown =
      registry.Gauge("image_variations_admission_slowdown",
                     "How much longer requests have been taking than predicted, all of the latest; "
                     "predictions count so many times as long. 1: right.");
  prometheus::Histogram& queue_seconds = registry.Seconds(
      "image_variations_queue_wait_seconds", "Time from submission to a request's first stage.");
  prometheus::Histogram& admission_error_seconds =
      registry.Seconds("image_variations_admission_error_seconds",
                       "How far a request's time was from the prediction at its admission.");
};

// Of one engine.
class Metrics::Engine final : public EngineObserver {
 public:
  Engine(Metrics& metrics, size_t index)
      : metrics_(metrics), index_(index), labels_{{"engine", std::to_string(index)}} {}

  void SetModel(const ModelInfo&, const CostModel&, absl::string_view version);

  void OnTick(const TickReport&) override;
  void OnSampleEnd(SampleOutcome outcome, int unet_rows) override {
    metrics_.CountSample(outcome, unet_rows);
  }
  void OnOutOfMemory(int /*how_many_failed*/) override { out_of_memory_.Increment(); }
  void OnDeviceLost(const absl::Status& /*why*/) override { device_lost_.Set(1); }

 private:
  prometheus::Labels With(const char* name, std::string value) const {
    prometheus::Labels labels = labels_;
    labels[name] = std::move(value);
    return labels;
  }
  prometheus::Histogram& Stage(const char* stage) { return metrics_.Stage(With("stage", stage)); }
  void SetCosts(const CostModel&);

  Metrics& metrics_;
  const size_t index_;
  const prometheus::Labels labels_;
  prometheus::Counter& unet_calls_ = metrics_.all_->unet_calls.Add(labels_);
  prometheus::Counter& unet_rows_ = metrics_.all_->unet_rows.Add(labels_);
  prometheus::Counter& padded_rows_ = metrics_.all_->padded_rows.Add(labels_);
  prometheus::Counter& batch_key_splits_ = metrics_.all_->batch_key_splits.Add(labels_);
  prometheus::Counter& out_of_memory_ = metrics_.all_->out_of_memory.Add(labels_);
  prometheus::Gauge& device_lost_ = metrics_.all_->device_lost.Add(labels_);
  prometheus::Gauge& samples_running_ = metrics_.all_->samples_running.Add(labels_);
  prometheus::Gauge& samples_waiting_ = metrics_.all_->samples_waiting.Add(labels_);
  prometheus::Histogram& embed_ = Stage("embed");
  prometheus::Histogram& unet_ = Stage("unet");
  prometheus::Histogram& vae_ = Stage("vae");
  prometheus::Histogram& safety_ = Stage("safety");
  std::array<prometheus::Gauge*, std::size(kCostRows)> step_costs_{};  // once a model is known
  std::atomic<int64_t> default_area_ = 0;                              // of its latents; 0 before
};

Metrics::Metrics(int engines)
    : all_(std::make_unique<All>()), backlogs_(static_cast<size_t>(engines)) {
  for (const auto& [method, type] : kMethods) {
    const prometheus::Labels labels = RpcLabels(method, type);
    all_->rpcs_started.Add(labels);
    all_->messages_received.Add(labels);
    all_->messages_sent.Add(labels);
    all_->rpc_seconds.Add(labels, MetricRegistry::SecondsBuckets());
    prometheus::Labels ok = labels;
    ok["grpc_code"] = "OK";
    all_->rpcs_handled.Add(ok);
  }
  all_->requests.Add({{"code", "OK"}, {"reason", ""}});
  for (const char* reason : kReasons) all_->refusals.Add({{"reason", reason}});
  for (const char* stage : kServerStages) Stage({{"stage", stage}});
  for (size_t i = 0; i < backlogs_.size(); ++i) {
    engines_.push_back(std::make_unique<Engine>(*this, i));
  }
  for (const SampleOutcome outcome : kOutcomes) {
    all_->samples.Add({{"result", OutcomeName(outcome)}});
    if (IsWaste(outcome)) all_->rows_wasted.Add({{"result", OutcomeName(outcome)}});
  }
  all_->reachable.Set(1);
  all_->slowdown.Set(1);
}

Metrics::~Metrics() = default;

std::shared_ptr<prometheus::Registry> Metrics::registry() const {
  return all_->registry.registry();
}

std::string Metrics::Markdown() const {
  return all_->registry.Markdown() + ProcessMetricsMarkdown();
}

void Metrics::OnRpcStarted(absl::string_view method, absl::string_view type) {
  const prometheus::Labels labels = RpcLabels(method, type);
  all_->rpcs_started.Add(labels).Increment();
  all_->messages_received.Add(labels).Increment();
}

void Metrics::OnRpcHandled(absl::string_view method, absl::string_view type,
                           const absl::Status& status, absl::Duration time) {
  prometheus::Labels labels = RpcLabels(method, type);
  all_->rpc_seconds.Add(labels, MetricRegistry::SecondsBuckets()).Observe(Seconds(time));
  labels["grpc_code"] = CodeName(status);
  all_->rpcs_handled.Add(labels).Increment();
}

void Metrics::OnMessageSent(absl::string_view method, absl::string_view type) {
  all_->messages_sent.Add(RpcLabels(method, type)).Increment();
}

void Metrics::SetServing(bool serving) { all_->serving.Set(serving); }
void Metrics::SetReachable(bool reachable) { all_->reachable.Set(reachable); }
void Metrics::SetSlowdown(double slowdown) { all_->slowdown.Set(slowdown); }
void Metrics::OnConnectionRefused() { all_->connections_refused.Increment(); }

void Metrics::OnRequestStarted() { all_->requests_in_flight.Increment(); }

void Metrics::OnRequestEnded(const absl::Status& status, bool was_admitted) {
  all_->requests_in_flight.Decrement();
  all_->requests.Add({{"code", CodeName(status)}, {"reason", ReasonOf(status)}}).Increment();
  if (!was_admitted) all_->refusals.Add({{"reason", ReasonOf(status)}}).Increment();
}

void Metrics::OnRequestRefused(const absl::Status& status) {
  OnRequestStarted();
  OnRequestEnded(status, /*was_admitted=*/false);
}

void Metrics::OnRequestRepeated() { all_->requests_repeated.Increment(); }

void Metrics::OnRequestServed(const JobMetrics& job, absl::Duration predicted,
                              absl::Duration actual) {
  all_->queue_seconds.Observe(Seconds(job.queue_time));
  all_->admission_error_seconds.Observe(Seconds(absl::AbsDuration(actual - predicted)));
}

void Metrics::OnImageDecoded(absl::Duration time) {
  Stage({{"stage", "decode"}}).Observe(Seconds(time));
}

void Metrics::OnImageEncoded(absl::Duration time) {
  Stage({{"stage", "encode"}}).Observe(Seconds(time));
}

void Metrics::SetModel(int engine, const ModelInfo& model, const CostModel& cost,
                       absl::string_view version) {
  engines_[static_cast<size_t>(engine)]->SetModel(model, cost, version);
}

EngineObserver& Metrics::engine(int index) const { return *engines_[static_cast<size_t>(index)]; }

prometheus::Histogram& Metrics::Stage(const prometheus::Labels& labels) {
  return all_->stage_seconds.Add(labels, MetricRegistry::SecondsBuckets());
}

void Metrics::CountSample(SampleOutcome outcome, int unet_rows) {
  all_->samples.Add({{"result", OutcomeName(outcome)}}).Increment();
  if (IsWaste(outcome))
    all_->rows_wasted.Add({{"result", OutcomeName(outcome)}}).Increment(unet_rows);
}

// Under the lock to the end: of two engines' news the later is what stays.
void Metrics::SetBacklog(size_t engine, absl::Duration backlog) {
  absl::MutexLock lock(&mutex_);
  backlogs_[engine] = backlog;
  absl::Duration sum;
  for (const absl::Duration each : backlogs_) sum += each;
  all_->backlog.Set(Seconds(sum) / static_cast<double>(backlogs_.size()));
}

void Metrics::Engine::SetModel(const ModelInfo& model, const CostModel& cost,
                               absl::string_view version) {
  prometheus::Labels labels = With("model_id", model.model_id);
  labels["device"] = model.device;
  labels["dtype"] = model.dtype;
  labels["fingerprint"] = model.fingerprint;
  labels["version"] = std::string(version);
  metrics_.all_->model.Add(labels).Set(1);
  for (size_t i = 0; i < step_costs_.size(); ++i) {
    step_costs_[i] = &metrics_.all_->step_cost.Add(With("rows", std::to_string(kCostRows[i])));
  }
  default_area_ = int64_t{model.default_width / model.latent_factor} *
                  (model.default_height / model.latent_factor);
  SetCosts(cost);
}

void Metrics::Engine::OnTick(const TickReport& tick) {
  samples_running_.Set(tick.running_samples);
  samples_waiting_.Set(tick.waiting_samples);
  metrics_.SetBacklog(index_, tick.predicted_backlog);
  if (tick.memory) {
    const auto set = [&](const char* kind, int64_t bytes) {
      metrics_.all_->device_memory.Add(With("kind", kind)).Set(static_cast<double>(bytes));
    };
    set("used", tick.memory->used_bytes);
    set("limit", tick.memory->limit_bytes);
  }
  if (tick.unet_rows > 0) {
    SetCosts(*tick.cost);
    unet_calls_.Increment();
    unet_rows_.Increment(tick.unet_rows);
    padded_rows_.Increment(tick.padded_rows - tick.unet_rows);
    batch_key_splits_.Increment(tick.batch_key_splits);
    unet_.Observe(Seconds(tick.denoise_time));
  }
  if (tick.embedded_jobs > 0) embed_.Observe(Seconds(tick.embed_time));
  if (tick.decoded_samples > 0) {
    vae_.Observe(Seconds(tick.latents_decode_time));
    safety_.Observe(Seconds(tick.safety_time));
  }
}

void Metrics::Engine::SetCosts(const CostModel& cost) {
  if (default_area_ == 0) return;
  for (size_t i = 0; i < step_costs_.size(); ++i) {
    step_costs_[i]->Set(Seconds(cost.unet.Predict(default_area_, kCostRows[i])));
  }
}

}  // namespace image_variations
