// The server program: the only file that knows both gRPC and the networks.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/torch_model_runner.h"
#include "server/config.h"
#include "server/serve.h"

namespace image_variations {
namespace {

// A factory for each device; the files are opened once.
absl::StatusOr<std::vector<ModelRunnerFactory>> OpenModel(const ServerConfig& config) {
  ASSIGN_OR_RETURN(const ModelDir dir, ModelDir::Open(config.model, config.hub_cache));
  TorchModelRunnerOptions options{
      .dtype = config.dtype,
      .threads = config.threads,
      .cpu_runners = static_cast<int>(std::ranges::count(config.devices, "cpu")),
      .gpu_memory = config.gpu_memory,
      .max_slots = config.engine.batcher.max_slots,
      .max_rows = config.engine.batcher.max_rows,
      .previews = config.engine.safety == SafetyMode::kOff,
  };
  std::vector<ModelRunnerFactory> factories;
  for (const std::string& device : config.devices) {
    options.device = device;
    factories.push_back([dir, options]() { return MakeTorchModelRunner(dir, options); });
  }
  return factories;
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
