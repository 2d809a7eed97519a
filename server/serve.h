// The whole server, put together: sockets, service, engine thread, metrics, and its end.
#pragma once

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config.h"
#include "server/engine_thread.h"

namespace image_variations {

// How the process ends: docs/operating.md.
enum ExitCode { kClean = 0, kCannotServe = 1, kBadFlags = 2, kNoSuchDevice = 3 };

// Serves until a signal or the loss of the device ends it; returns the process's exit code. Takes
// SIGTERM and SIGINT over, so no other thread may have been started. `open_model` is called once,
// on this thread, and has a factory for each of the configuration's devices. When one is lost,
// Serve ends the process itself.
int Serve(const ServerConfig&,
          absl::FunctionRef<absl::StatusOr<std::vector<ModelRunnerFactory>>()> open_model);

}  // namespace image_variations
