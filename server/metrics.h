// Prometheus metrics of the server and, as their observer, of its engines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/engine_observer.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace image_variations {

// Thread-safe. What alerts and dashboards count is there from the start, as zero.
class Metrics {
 public:
  explicit Metrics(int engines = 1);
  ~Metrics();

  std::shared_ptr<prometheus::Registry> registry() const;
  // A table of all metrics, for docs/operating.md.
  std::string Markdown() const;

  // An rpc of VariationService, `type` "unary" or "server_stream", and its end; messages of the
  // caller and to it. The names are those of go-grpc-middleware, which dashboards know.
  void OnRpcStarted(absl::string_view method, absl::string_view type);
  void OnRpcHandled(absl::string_view method, absl::string_view type, const absl::Status&,
                    absl::Duration);
  void OnMessageSent(absl::string_view method, absl::string_view type);

  // Whether requests are taken; whether the port where they come in answers a call from outside.
  void SetServing(bool serving);
  void SetReachable(bool reachable);
  // So many times as long as predicted do requests take, as the gate sees it.
  void SetSlowdown(double slowdown);
  // A connection was closed at once because there are too many.
  void OnConnectionRefused();

  // A request for variations came; it ended with this status, or was refused before any work.
  void OnRequestStarted();
  void OnRequestEnded(const absl::Status&, bool was_admitted);
  // It was refused before it began.
  void OnRequestRefused(const absl::Status&);
  // It joined the work or got the answer of an earlier one with its request_id.
  void OnRequestRepeated();
  // An admitted request was answered.
  void OnRequestServed(const JobMetrics&, absl::Duration predicted, absl::Duration actual);
  void OnImageDecoded(absl::Duration);
  void OnImageEncoded(absl::Duration);
  // What an engine loaded, and what it was measured to cost at start.
  void SetModel(int engine, const ModelInfo&, const CostModel&, absl::string_view version);
  // What an engine does; `engine` is a label of all that is its own.
  EngineObserver& engine(int) const;

 private:
  struct All;
  class Engine;

  prometheus::Histogram& Stage(const prometheus::Labels&);
  void CountSample(SampleOutcome, int unet_rows);
  void SetBacklog(size_t engine, absl::Duration) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<All> all_;
  std::vector<std::unique_ptr<Engine>> engines_;
  absl::Mutex mutex_;
  std::vector<absl::Duration> backlogs_ ABSL_GUARDED_BY(mutex_);  // by engine
};

}  // namespace image_variations
