#include "server/serve.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "pipeline/base/clock.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/fault_injector.h"
#include "server/admission.h"
#include "server/authenticator.h"
#include "server/caller_limits.h"
#include "server/connection_acceptor.h"
#include "server/decode_sandbox.h"
#include "server/engine_pool.h"
#include "server/grpc_log.h"
#include "server/lifecycle.h"
#include "server/listener.h"
#include "server/metrics.h"
#include "server/metrics_port.h"
#include "server/request_ledger.h"
#include "server/self_dial.h"
#include "server/systemd.h"
#include "server/variations_service.h"
#include "server/watchdog.h"
#include "server/worker_pool.h"

namespace image_variations {
namespace {

constexpr absl::Duration kAnswerGrace = absl::Seconds(5);  // for slow readers of what is done
constexpr absl::Duration kDeviceLostGrace = absl::Seconds(1);
constexpr absl::Duration kHangUpGrace = absl::Seconds(1);  // for gRPC to notice
constexpr absl::Duration kWatchdogInterval = absl::Seconds(1);

constexpr int kMaxProbes = 32;  // connections to the health port
constexpr int kMaxProbeBytes = 4 << 10;

int Fail(ExitCode code, const absl::Status& why) {
  Log(Severity::kError, "cannot serve", {{"why", why.message()}});
  return code;
}

// Of what was wrong with the settings.
ExitCode CodeOf(const absl::Status& why) {
  return absl::IsInvalidArgument(why) ? kBadFlags : kCannotServe;
}

absl::StatusOr<std::optional<MetricsPort>> OpenMetricsPort(const std::string& address,
                                                           const Metrics& metrics) {
  if (address.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(MetricsPort port, MetricsPort::Open(address, metrics.registry()));
  return std::optional<MetricsPort>(std::move(port));
}

// A plaintext port with nothing but health, for probes that speak no TLS and have no token. It is
// ready when the port where requests come in answers a call from outside.
struct HealthPort {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<SelfDial> self_dial;
};

absl::StatusOr<HealthPort> ServeHealth(const ServerConfig& config, const std::string& main_address,
                                       Lifecycle& lifecycle, Metrics& metrics) {
  HealthPort port;
  if (config.health_listen.empty()) return port;
  const ListenerOptions options{.address = config.health_listen,
                                .is_public = true,
                                .max_connections = kMaxProbes,
                                .max_message_bytes = kMaxProbeBytes};
  ASSIGN_OR_RETURN(Endpoint endpoint, OpenEndpoint(options));
  ASSIGN_OR_RETURN(port.listener, Listener::Start(std::move(endpoint), options, {}));
  lifecycle.AttachHealth(port.listener->health(), HealthView::kReadiness);
  port.self_dial = std::make_unique<SelfDial>(
      SelfDialOptions{.address = main_address,
                      .uses_tls = !config.listener.tls.certificate.empty()},
      [&lifecycle, &metrics](bool is_reachable) {
        lifecycle.SetReachable(is_reachable);
        metrics.SetReachable(is_reachable);
      });
  return port;
}

ModelRunnerFactory WithFaults(ModelRunnerFactory factory, std::vector<Fault> faults, int engine) {
  std::erase_if(faults, [engine](const Fault& fault) { return fault.engine != engine; });
  if (faults.empty()) return factory;
  Log(Severity::kWarning, "faults will be injected");
  return [factory = std::move(factory),
          faults = std::move(faults)]() mutable -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
    ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner, std::move(factory)());
    return std::make_unique<FaultInjector>(std::move(runner), std::move(faults),
                                           [] { absl::SleepFor(absl::InfiniteDuration()); });
  };
}

std::vector<ModelRunnerFactory> WithFaults(std::vector<ModelRunnerFactory> factories,
                                           const std::vector<Fault>& faults) {
  for (size_t i = 0; i < factories.size(); ++i) {
    factories[i] = WithFaults(std::move(factories[i]), faults, static_cast<int>(i));
  }
  return factories;
}

std::vector<std::unique_ptr<Watchdog>> Watch(const EnginePool& engines, const Clock& clock,
                                             absl::Duration patience) {
  std::vector<std::unique_ptr<Watchdog>> watchdogs;
  for (int i = 0; i < engines.size(); ++i) {
    watchdogs.push_back(
        std::make_unique<Watchdog>(engines.at(i).heartbeat(), clock, patience, kWatchdogInterval,
                                   [&observer = engines.observer(i)](const absl::Status& why) {
                                     observer.OnDeviceLost(why);
                                   }));
  }
  return watchdogs;
}

// What scripts wait for.
void PrintAddresses(const Listener& listener, const std::optional<MetricsPort>& metrics,
                    const Listener* health) {
  std::printf("listening on %s\n", listener.address().c_str());
  std::printf("metrics %s\n", metrics ? ("on " + metrics->address()).c_str() : "off");
  if (health != nullptr) std::printf("health on %s\n", health->address().c_str());
  std::fflush(stdout);
}

// Whoever was not answered by a device that hangs hears UNAVAILABLE when the connection ends.
[[noreturn]] void EndWithoutDevice(AdmissionGate& gate, const VariationsService& service,
                                   Listener& listener) {
  if (gate.WaitUntilEmpty(kDeviceLostGrace) && service.WaitUntilAnswered(kDeviceLostGrace)) {
    listener.Shutdown(kHangUpGrace);
  }
  std::_Exit(kCannotServe);  // a broken device may hang whoever tidies up after it
}

// Until nothing runs any more and nobody listens; false: something runs, or the device is lost.
bool WindDown(const ServerConfig& config, Lifecycle& lifecycle, const VariationsService& service,
              Listener& listener, HealthPort& health) {
  NotifySystemd(config.notify_socket, "STOPPING=1\nSTATUS=draining");
  if (!lifecycle.Drain(config.drain)) return false;
  service.WaitUntilAnswered(kAnswerGrace);
  health.self_dial.reset();
  listener.Shutdown(kHangUpGrace);
  lifecycle.DetachHealth();
  return true;
}

}  // namespace

int Serve(const ServerConfig& config,
          absl::FunctionRef<absl::StatusOr<std::vector<ModelRunnerFactory>>()> open_model) {
  SetMinLogSeverity(config.log_level);
  TakeOverGrpcLog();
  TakeOverProtobufLog();
  const RealClock clock;
  Metrics metrics(static_cast<int>(config.devices.size()));
  AdmissionGate gate(config.admission);
  Lifecycle lifecycle(gate);
  std::atomic<bool> is_sandbox_lost = false;
  std::unique_ptr<DecodeSandbox> sandbox;
  if (config.decode_sandbox) {
    auto started = DecodeSandbox::Start();  // before there are threads
    if (!started.ok()) return Fail(kCannotServe, started.status());
    sandbox = *std::move(started);
  }
  const StopSignals signals([&lifecycle] {
    if (lifecycle.state() == ServerState::kStarting) std::_Exit(kClean);
    lifecycle.RequestStop();
  });

  RaiseFileLimit();
  absl::StatusOr<Endpoint> endpoint = OpenEndpoint(config.listener);
  if (!endpoint.ok()) return Fail(CodeOf(endpoint.status()), endpoint.status());
  const auto authenticator = Authenticator::Make(config.authentication, clock);
  if (!authenticator.ok()) return Fail(CodeOf(authenticator.status()), authenticator.status());
  absl::StatusOr<std::vector<ModelRunnerFactory>> model = open_model();
  if (!model.ok()) return Fail(kCannotServe, model.status());
  const auto metrics_port = OpenMetricsPort(config.metrics_listen, metrics);
  if (!metrics_port.ok()) return Fail(CodeOf(metrics_port.status()), metrics_port.status());
  WorkerPool codecs(config.codec_threads);
  EnginePool engines(config.engine, WithFaults(*std::move(model), config.faults), clock, lifecycle,
                     metrics);
  RequestLedger ledger(config.ledger, clock);
  CallerLimits caller_limits(config.caller_limits);
  VariationsService service(config.limits, config.engine, clock, lifecycle, **authenticator,
                            caller_limits, gate, ledger, codecs, metrics);
  if (sandbox != nullptr) service.DecodeIn(*sandbox);
  const auto listener = Listener::Start(*std::move(endpoint), config.listener, {&service},
                                        [&metrics] { metrics.OnConnectionRefused(); });
  if (!listener.ok()) return Fail(kCannotServe, listener.status());
  lifecycle.AttachHealth((*listener)->health());
  absl::StatusOr<HealthPort> health =
      ServeHealth(config, (*listener)->numeric_address(), lifecycle, metrics);
  if (!health.ok()) return Fail(CodeOf(health.status()), health.status());

  if (const absl::Status warm = engines.WaitUntilWarm(); !warm.ok()) {
    return Fail(absl::IsNotFound(warm) ? kNoSuchDevice : kCannotServe, warm);
  }
  service.Serve(engines);
  lifecycle.Serve();
  metrics.SetServing(true);
  if (sandbox != nullptr) {
    sandbox->Watch([&] {
      Log(Severity::kError, "the process that starts those for pictures is gone: stopping");
      is_sandbox_lost = true;
      lifecycle.RequestStop();
    });
  }
  const auto watchdogs = Watch(engines, clock, config.hang_timeout);
  PrintAddresses(**listener, *metrics_port, health->listener.get());
  NotifySystemd(config.notify_socket, "READY=1\nSTATUS=serving");

  const absl::Status stop = lifecycle.WaitForStop();
  metrics.SetServing(false);
  const bool is_drained = stop.ok() && WindDown(config, lifecycle, service, **listener, *health);
  const ExitCode code = is_sandbox_lost ? kCannotServe : kClean;
  if (is_drained) return code;
  if (!lifecycle.device().ok()) EndWithoutDevice(gate, service, **listener);
  std::_Exit(code);  // a call that goes on would hold up gRPC and the engine's thread
}

}  // namespace image_variations
