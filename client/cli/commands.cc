#include "client/cli/commands.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/bench_command.h"
#include "client/cli/connection.h"
#include "client/cli/explanation.h"
#include "client/cli/json_report.h"
#include "client/cli/names.h"
#include "client/cli/progress_report.h"
#include "client/cli/vary_command.h"
#include "client/client.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

void PrintError(const Terminal& terminal, const std::string& text) {
  terminal.err << "image-variations: " << text << std::endl;
}

std::string DescribeModel(const ModelDescription& model) {
  const VariationRequest& defaults = model.defaults;
  const ModelLimits& limits = model.limits;
  std::string text;
  absl::StrAppend(&text, "model        ", model.model_id, "\n");
  absl::StrAppend(&text, "device       ", model.device, ", ", model.dtype, "\n");
  absl::StrAppend(&text, "samplers     ", absl::StrJoin(model.samplers, ", "), "\n");
  absl::StrAppend(&text, "defaults     ", defaults.step_count.value_or(0), " steps, guidance ",
                  defaults.guidance_scale.value_or(0), ", ", defaults.sampler, ", ", defaults.width,
                  "x", defaults.height, " pixels\n");
  absl::StrAppend(&text, "limits       ", limits.max_sample_count, " samples, ",
                  limits.max_step_count, " steps, guidance ", limits.max_guidance_scale,
                  "; sides of ", limits.min_size, " to ", limits.max_size, " pixels in steps of ",
                  limits.size_multiple, "\n");
  absl::StrAppendFormat(&text, "pictures     up to %.1f MiB and %.1f megapixels\n",
                        static_cast<double>(limits.max_image_bytes) / (1 << 20),
                        static_cast<double>(limits.max_image_pixels) / 1e6);
  absl::StrAppend(&text, "safety       ", model.safety, "\n");
  absl::StrAppend(&text, "fingerprint  ", model.fingerprint,
                  model.reproducible ? " (reproducible)" : " (not reproducible)", "\n");
  if (model.devices.size() < 2) return text;
  for (size_t i = 0; i < model.devices.size(); ++i) {
    const ModelDevice& device = model.devices[i];
    absl::StrAppend(&text, "device ", i, "     ", device.device, ", ", device.dtype, ", ",
                    device.fingerprint, "\n");
  }
  return text;
}

std::string DescribeStatus(const ServerStatus& status, const std::string& server_version) {
  std::string text;
  absl::StrAppend(&text, "server       ", server_version, ", ", NameOf(status.state), "; ",
                  status.rows_running, " rows running, ", status.samples_waiting,
                  " samples waiting, a wait of about ", FormatClock(status.predicted_wait), "\n");
  for (size_t i = 0; status.devices.size() > 1 && i < status.devices.size(); ++i) {
    const DeviceStatus& device = status.devices[i];
    absl::StrAppend(&text, "device ", i, "     ", device.rows_running, " rows running, ",
                    device.samples_waiting, " samples waiting, a wait of about ",
                    FormatClock(device.predicted_wait), "\n");
  }
  for (const auto& [rows, time] : status.step_costs) {
    absl::StrAppendFormat(&text, "UNet call    rows: %2d, time: %.1f ms\n", rows,
                          absl::ToDoubleMilliseconds(time));
  }
  return text;
}

absl::Status PrintInfo(const Arguments& arguments, const Terminal& terminal) {
  ASSIGN_OR_RETURN(ConnectOptions options,
                   MakeConnectOptions(arguments.server, arguments.connection));
  ASSIGN_OR_RETURN(const Client client, Client::Connect(std::move(options)));
  const absl::Time deadline = terminal.now() + arguments.timeout;
  ASSIGN_OR_RETURN(const ModelDescription model, client.GetModel(deadline));
  ASSIGN_OR_RETURN(const ServerStatus status, client.GetServerStatus(deadline));
  if (arguments.json) {
    terminal.out << ToJson(model, status) << std::endl;
  } else {
    terminal.out << DescribeModel(model) << DescribeStatus(status, model.server_version)
                 << std::flush;
  }
  return absl::OkStatus();
}

ExitCode RunInfo(const Arguments& arguments, const Terminal& terminal) {
  const absl::Status status = PrintInfo(arguments, terminal);
  if (!status.ok()) PrintError(terminal, Explain(status, arguments));
  return ExitCodeOf(status);
}

absl::StatusOr<ServingStatus> AskHealth(const Arguments& arguments, const Terminal& terminal) {
  ASSIGN_OR_RETURN(ConnectOptions options,
                   MakeConnectOptions(arguments.server, arguments.connection));
  ASSIGN_OR_RETURN(const Client client, Client::Connect(std::move(options)));
  return client.CheckHealth(arguments.health_service, terminal.now() + arguments.timeout);
}

// 0 or 1 and nothing else, as container health checks want it.
ExitCode RunHealth(const Arguments& arguments, const Terminal& terminal) {
  const absl::StatusOr<ServingStatus> serving = AskHealth(arguments, terminal);
  if (absl::IsNotFound(serving.status())) {
    PrintError(terminal, absl::StrCat("the server has no service ", arguments.health_service));
    return kExitFailed;
  }
  if (!serving.ok()) {
    PrintError(terminal, Explain(serving.status(), arguments));
    return kExitFailed;
  }
  terminal.out << NameOf(*serving) << std::endl;
  return *serving == ServingStatus::kServing ? kExitDone : kExitFailed;
}

}  // namespace

ExitCode RunCli(const std::vector<std::string>& words, const Terminal& terminal) {
  const absl::StatusOr<Arguments> arguments = ParseArguments(words);
  if (!arguments.ok()) {
    PrintError(terminal, std::string(arguments.status().message()));
    return kExitUsage;
  }
  switch (arguments->command) {
    case Command::kVary:
      return RunVary(*arguments, terminal);
    case Command::kBench:
      return RunBench(*arguments, terminal);
    case Command::kHealth:
      return RunHealth(*arguments, terminal);
    case Command::kInfo:
      return RunInfo(*arguments, terminal);
    case Command::kPrintText:
      break;
  }
  terminal.out << arguments->text << std::flush;
  return kExitDone;
}

}  // namespace image_variations::client
