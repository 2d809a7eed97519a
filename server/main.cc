// The server program: puts the parts together. The only file that knows both gRPC and the networks.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/base/clock.h"
#include "pipeline/base/log.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/torch_model_runner.h"
#include "prometheus/exposer.h"
#include "server/admission.h"
#include "server/config.h"
#include "server/engine_thread.h"
#include "server/lifecycle.h"
#include "server/listener.h"
#include "server/metrics.h"
#include "server/variations_service.h"
#include "server/worker_pool.h"

namespace image_variations {
namespace {

// How the process ends: docs/operating.md.
enum ExitCode { kClean = 0, kCannotServe = 1, kBadFlags = 2, kNoSuchDevice = 3 };

constexpr absl::Duration kHangUpGrace = absl::Milliseconds(200);  // for open health watches
constexpr absl::Duration kDeviceLostGrace = absl::Seconds(1);     // for answers on their way

int Fail(ExitCode code, const absl::Status& why) {
  Log(Severity::kError, "cannot serve", {{"why", why.message()}});
  return code;
}

ModelRunnerFactory RunnerFactory(ModelDir dir, const ServerConfig& config) {
  TorchModelRunnerOptions options{
      .device = config.device,
      .dtype = config.dtype,
      .threads = config.threads,
      .max_slots = config.engine.batcher.max_slots,
      .max_rows = config.engine.batcher.max_rows,
  };
  return [dir = std::move(dir), options = std::move(options)]() {
    return MakeTorchModelRunner(dir, options);
  };
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

int Serve(const ServerConfig& config) {
  SetMinLogSeverity(config.log_level);
  const RealClock clock;
  Metrics metrics;
  AdmissionGate gate(config.admission);
  Lifecycle lifecycle(gate, metrics);
  const StopSignals signals([&lifecycle] {
    if (lifecycle.state() == ServerState::kStarting) std::_Exit(kClean);
    lifecycle.RequestStop();
  });

  absl::StatusOr<ModelDir> model = ModelDir::Open(config.model);
  if (!model.ok()) return Fail(kCannotServe, model.status());
  const auto exposer = ServeMetrics(config.metrics_listen, metrics);
  if (!exposer.ok()) return Fail(kCannotServe, exposer.status());
  WorkerPool codecs(config.codec_threads);
  EngineThread engine_thread(config.engine, RunnerFactory(*std::move(model), config), clock,
                             lifecycle);
  VariationsService service(config.limits, config.engine, clock, lifecycle, gate, codecs, metrics);
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

int Main(int argc, const char* const* argv) {
  const absl::StatusOr<Command> command = ReadCommand(argc, argv, ProcessEnvironment);
  if (!command.ok()) {
    std::fprintf(stderr, "image-variations-server: %s\nRun with --help for more information.\n",
                 std::string(command.status().message()).c_str());
    return kBadFlags;
  }
  if (command->print) {
    std::fputs(command->print->c_str(), stdout);
    return kClean;
  }
  return Serve(command->config);
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
