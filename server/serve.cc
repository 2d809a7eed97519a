#include "server/serve.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "pipeline/base/clock.h"
#include "pipeline/base/log.h"
#include "prometheus/exposer.h"
#include "server/admission.h"
#include "server/lifecycle.h"
#include "server/listener.h"
#include "server/metrics.h"
#include "server/request_ledger.h"
#include "server/variations_service.h"
#include "server/worker_pool.h"

namespace image_variations {
namespace {

constexpr absl::Duration kHangUpGrace = absl::Milliseconds(200);  // for open health watches
constexpr absl::Duration kDeviceLostGrace = absl::Seconds(1);     // for answers on their way

int Fail(ExitCode code, const absl::Status& why) {
  Log(Severity::kError, "cannot serve", {{"why", why.message()}});
  return code;
}

absl::StatusOr<std::unique_ptr<prometheus::Exposer>> ServeMetrics(const std::string& address,
                                                                  const Metrics& metrics) {
  if (address.empty()) return nullptr;
  absl::StatusOr<std::string> resolved = ResolveListenAddress(address);
  if (!resolved.ok()) return resolved.status();
  auto exposer = std::make_unique<prometheus::Exposer>(*resolved);
  exposer->RegisterCollectable(metrics.registry());
  return exposer;
}

// What scripts wait for.
void PrintAddresses(const Listener& listener, const std::string& metrics_listen,
                    const prometheus::Exposer* exposer) {
  std::printf("listening on %s\n", listener.address().c_str());
  std::printf("metrics %s\n",
              exposer == nullptr
                  ? "off"
                  : ("on " + WithPort(metrics_listen, exposer->GetListeningPorts()[0])).c_str());
  std::fflush(stdout);
}

}  // namespace

int Serve(const ServerConfig& config,
          absl::FunctionRef<absl::StatusOr<ModelRunnerFactory>()> open_model) {
  SetMinLogSeverity(config.log_level);
  const RealClock clock;
  Metrics metrics;
  AdmissionGate gate(config.admission);
  Lifecycle lifecycle(gate, metrics);
  const StopSignals signals([&lifecycle] {
    if (lifecycle.state() == ServerState::kStarting) std::_Exit(kClean);
    lifecycle.RequestStop();
  });

  absl::StatusOr<ModelRunnerFactory> model = open_model();
  if (!model.ok()) return Fail(kCannotServe, model.status());
  const auto exposer = ServeMetrics(config.metrics_listen, metrics);
  if (!exposer.ok()) return Fail(kCannotServe, exposer.status());
  WorkerPool codecs(config.codec_threads);
  EngineThread engine_thread(config.engine, *std::move(model), clock, lifecycle);
  RequestLedger ledger(config.ledger, clock);
  VariationsService service(config.limits, config.engine, clock, lifecycle, gate, ledger, codecs,
                            metrics);
  const auto listener = Listener::Start(config.listener, service);
  if (!listener.ok()) return Fail(kCannotServe, listener.status());
  lifecycle.AttachHealth((*listener)->health());

  const absl::StatusOr<Engine*> engine = engine_thread.WaitUntilWarm();
  if (!engine.ok()) {
    return Fail(absl::IsNotFound(engine.status()) ? kNoSuchDevice : kCannotServe, engine.status());
  }
  service.Serve(**engine);
  lifecycle.Serve();
  PrintAddresses(**listener, config.metrics_listen, exposer->get());

  if (!lifecycle.WaitForStop().ok()) {
    (*listener)->Shutdown(kDeviceLostGrace);
    std::_Exit(kCannotServe);  // a broken device may hang whoever tidies up after it
  }
  lifecycle.Drain(config.drain);
  (*listener)->Shutdown(kHangUpGrace);
  return kClean;
}

}  // namespace image_variations
