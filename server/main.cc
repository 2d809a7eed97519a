// The server program: the only file that knows both gRPC and the networks.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/torch_model_runner.h"
#include "server/config.h"
#include "server/serve.h"

namespace image_variations {
namespace {

absl::StatusOr<ModelRunnerFactory> OpenModel(const ServerConfig& config) {
  ASSIGN_OR_RETURN(ModelDir dir, ModelDir::Open(config.model, config.hub_cache));
  TorchModelRunnerOptions options{
      .device = config.device,
      .dtype = config.dtype,
      .threads = config.threads,
      .gpu_memory = config.gpu_memory,
      .max_slots = config.engine.batcher.max_slots,
      .max_rows = config.engine.batcher.max_rows,
      .previews = config.engine.safety == SafetyMode::kOff,
  };
  return [dir = std::move(dir), options = std::move(options)]() {
    return MakeTorchModelRunner(dir, options);
  };
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
  return Serve(command->config, [&command] { return OpenModel(command->config); });
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
