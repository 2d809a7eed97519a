// The server program with FakeModelRunner for the networks: STEP_TIME in place of --model, then the
// flags. STEP_TIME is how long a UNet call takes, such as 20ms.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "pipeline/base/status_macros.h"
#include "server/config.h"
#include "server/serve.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

ModelRunnerFactory MakeFactory(absl::Duration step_time) {
  return [step_time]() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
    auto runner = std::make_unique<FakeModelRunner>();
    runner->on_call = [step_time](absl::string_view verb, int) {
      if (verb == "Denoise") absl::SleepFor(step_time);
    };
    return runner;
  };
}

int Main(int argc, char** argv) {
  absl::Duration step_time;
  IV_CHECK(argc >= 2 && absl::ParseDuration(argv[1], &step_time));
  std::vector<const char*> arguments(argv, argv + argc);
  arguments[1] = "--model=fake";
  const absl::StatusOr<Command> command =
      ReadCommand(static_cast<int>(arguments.size()), arguments.data(), ProcessEnvironment);
  if (!command.ok()) {
    std::fprintf(stderr, "%s\n", std::string(command.status().message()).c_str());
    return kBadFlags;
  }
  if (command->print) {
    std::fputs(command->print->c_str(), stdout);
    return kClean;
  }
  return Serve(command->config, [&]() -> absl::StatusOr<std::vector<ModelRunnerFactory>> {
    std::vector<ModelRunnerFactory> factories;
    for (size_t i = 0; i < command->config.devices.size(); ++i) {
      factories.push_back(MakeFactory(step_time));
    }
    return factories;
  });
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
