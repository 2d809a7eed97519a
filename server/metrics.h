// Prometheus metrics of the server and, as its observer, of the engine.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "pipeline/engine/engine_observer.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace image_variations {

// Thread-safe.
class Metrics final : public EngineObserver {
 public:
  Metrics();

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }
  // A table of all metrics, for docs/operating.md.
  std::string Markdown() const;

  // An rpc of VariationService, `type` "unary" or "server_stream", and its end: the names of
  // go-grpc-middleware, which dashboards know.
  void OnRpcStarted(absl::string_view method, absl::string_view type);
  void OnRpcHandled(absl::string_view method, absl::string_view type, const absl::Status&,
                    absl::Duration);

  // A connection was closed at once because there are too many.
  void OnConnectionRefused() { connections_refused_.Increment(); }

  // A request for variations came; it ended with this status, or was refused before any work.
  void OnRequestStarted() { requests_in_flight_.Increment(); }
  void OnRequestEnded(const absl::Status&, bool was_admitted);
  // It was refused before it began.
  void OnRequestRefused(const absl::Status&);
  // It joined the work or got the answer of an earlier one with its request_id.
  void OnRequestRepeated() { requests_repeated_.Increment(); }
  // An admitted request was answered.
  void OnRequestServed(const JobMetrics&, absl::Duration predicted, absl::Duration actual);
  void OnImageDecoded(absl::Duration);
  void OnImageEncoded(absl::Duration);
  void SetModel(const ModelInfo&, absl::string_view version);

  void OnTick(const TickReport&) override;
  void OnSampleEnd(SampleOutcome) override;
  void OnOutOfMemory(int rows_that_failed) override;
  void OnDeviceLost(const absl::Status& why) override;

 private:
  template <typename Metric>
  using Family = prometheus::Family<Metric>;

  Family<prometheus::Counter>& Counters(const char* name, const char* help);
  Family<prometheus::Gauge>& Gauges(const char* name, const char* help);
  Family<prometheus::Histogram>& Histograms(const char* name, const char* help);
  void Describe(const char* name, const char* type, const char* help);
  prometheus::Histogram& Stage(const char* stage);

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::string markdown_rows_;
  Family<prometheus::Counter>& rpcs_started_;
  Family<prometheus::Counter>& rpcs_handled_;
  Family<prometheus::Histogram>& rpc_seconds_;
  Family<prometheus::Counter>& requests_;
  Family<prometheus::Counter>& refusals_;
  Family<prometheus::Histogram>& stage_seconds_;
  Family<prometheus::Counter>& samples_;
  Family<prometheus::Gauge>& model_;
  prometheus::Counter& connections_refused_;
  prometheus::Gauge& requests_in_flight_;
  prometheus::Gauge& samples_running_;
  prometheus::Gauge& samples_waiting_;
  prometheus::Gauge& device_lost_;
  prometheus::Counter& requests_repeated_;
  prometheus::Counter& unet_calls_;
  prometheus::Counter& unet_rows_;
  prometheus::Counter& padded_rows_;
  prometheus::Counter& out_of_memory_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& admission_error_seconds_;
};

}  // namespace image_variations
