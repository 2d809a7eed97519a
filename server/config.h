// The server's settings, from flags, IMAGE_VARIATIONS_* variables and a file, in that order. The
// table in config.cc is the only list of them; --help and docs/operating.md come out of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "pipeline/base/log.h"
#include "pipeline/engine/engine.h"
#include "pipeline/engine/fault_injector.h"
#include "server/admission.h"
#include "server/authenticator.h"
#include "server/caller_limits.h"
#include "server/lifecycle.h"
#include "server/listener.h"
#include "server/request_ledger.h"
#include "server/request_validator.h"

namespace image_variations {

struct ServerConfig {
  std::string model;
  std::string hub_cache;  // where a model that is no folder is looked up; from HF_HUB_CACHE and kin
  std::vector<std::string> devices{"auto"};  // with an engine each
  std::string dtype = "auto";
  float gpu_memory = 1;
  int threads = 0;
  // 50051 is gRPC's customary port, 9464 that of Prometheus exporters.
  ListenerOptions listener{.address = "127.0.0.1:50051"};
  AuthenticatorOptions authentication;
  CallerLimitOptions caller_limits;
  std::string metrics_listen = "127.0.0.1:9464";  // empty: no metrics port
  std::string health_listen;                      // empty: no health port
  std::string notify_socket;                      // systemd's; empty: none
  EngineOptions engine;
  RequestLimits limits;
  AdmissionOptions admission;
  RequestLedgerOptions ledger;
  DrainOptions drain;
  absl::Duration hang_timeout = absl::Minutes(1);
  std::vector<Fault> faults;  // to be injected, by developers
  int codec_threads = 2;
  bool decode_sandbox = false;
  Severity log_level = Severity::kInfo;
};

// What the command line asks for: to serve, or to print something and leave.
struct Command {
  ServerConfig config;
  std::optional<std::string> print;  // --help, --version, a table for the docs
};

// The value of an environment variable, nullptr when it is not set: std::getenv, or a test's.
using Environment = absl::FunctionRef<const char*(const char* name)>;

// INVALID_ARGUMENT names the flag, where its value came from, and what is accepted. Variables with
// the prefix that belong to no flag are ignored: Kubernetes makes IMAGE_VARIATIONS_PORT and others
// of its own for a Service of this name.
absl::StatusOr<Command> ReadCommand(int argc, const char* const* argv, Environment);

// std::getenv.
const char* ProcessEnvironment(const char* name);

}  // namespace image_variations
