// Prometheus metrics of the server and, as its observer, of the engine.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/engine_observer.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "server/metric_registry.h"

namespace image_variations {

// Thread-safe. What alerts and dashboards count is there from the start, as zero.
class Metrics final : public EngineObserver {
 public:
  Metrics();

  std::shared_ptr<prometheus::Registry> registry() const { return metrics_.registry(); }
  // A table of all metrics, for docs/operating.md.
  std::string Markdown() const;

  // An rpc of VariationService, `type` "unary" or "server_stream", and its end; messages of the
  // caller and to it. The names are those of go-grpc-middleware, which dashboards know.
  void OnRpcStarted(absl::string_view method, absl::string_view type);
  void OnRpcHandled(absl::string_view method, absl::string_view type, const absl::Status&,
                    absl::Duration);
  void OnMessageSent(absl::string_view method, absl::string_view type);

  // Whether requests are taken; whether the port where they come in answers a call from outside.
  void SetServing(bool serving) { serving_.Set(serving); }
  void SetReachable(bool reachable) { reachable_.Set(reachable); }
  // So many times as long as predicted do requests take, as the gate sees it.
  void SetSlowdown(double slowdown) { slowdown_.Set(slowdown); }
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
  // What was loaded, and what it was measured to cost at start.
  void SetModel(const ModelInfo&, const CostModel&, absl::string_view version);

  void OnTick(const TickReport&) override;
  void OnSampleEnd(SampleOutcome, int unet_rows) override;
  void OnOutOfMemory(int how_many_failed) override;
  void OnDeviceLost(const absl::Status& why) override;

 private:
  void SetCosts(const CostModel&);
  prometheus::Histogram& Stage(const char* stage);

  MetricRegistry metrics_;
  MetricRegistry::Family<prometheus::Counter>&rpcs_started_, &rpcs_handled_, &messages_received_,
      &messages_sent_;
  MetricRegistry::Family<prometheus::Counter>&requests_, &refusals_, &samples_, &rows_wasted_;
  MetricRegistry::Family<prometheus::Histogram>&rpc_seconds_, &stage_seconds_;
  MetricRegistry::Family<prometheus::Gauge>&model_, &step_cost_, &device_memory_;
  prometheus::Counter &connections_refused_, &requests_repeated_, &unet_calls_, &unet_rows_,
      &padded_rows_, &batch_key_splits_, &out_of_memory_;
  prometheus::Gauge &serving_, &reachable_, &device_lost_, &requests_in_flight_, &samples_running_,
      &samples_waiting_, &backlog_, &slowdown_;
  prometheus::Histogram &queue_seconds_, &admission_error_seconds_;
  std::atomic<int64_t> default_area_ = 0;  // of latents; 0 while no model is known
};

}  // namespace image_variations
