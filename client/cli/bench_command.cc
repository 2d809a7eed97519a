#include "client/cli/bench_command.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench/rate_search.h"
#include "client/bench/server_target.h"
#include "client/cli/bench_report.h"
#include "client/cli/explanation.h"
#include "client/cli/files.h"
#include "client/cli/status_line.h"
#include "client/client.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);  // for the server's first answer

class BenchCommand {
 public:
  BenchCommand(const Arguments& arguments, const Terminal& terminal, const Client& client)
      : bench_(arguments.bench),
        terminal_(terminal),
        client_(client),
        said_(bench_.json == "-" || bench_.plot == "-" ? terminal.err : terminal.out) {
    report_.arguments = bench_;
  }

  // Not OK: nothing could be measured, or the results not be written.
  absl::Status Run();
  ExitCode exit_code() const;

 private:
  absl::Status Prepare();
  absl::Status RunAll();
  absl::Status FindRate();
  absl::StatusOr<LoadSummary> RunAt(double rate);
  const BenchRun& RunToDescribe() const;
  absl::Status WriteReports();
  absl::Status Write(const std::string& path, const std::string& bytes);

  const BenchArguments& bench_;
  const Terminal& terminal_;
  const Client& client_;
  std::ostream& said_;
  std::vector<VariationRequest> requests_;
  BenchReport report_;
};

absl::Status BenchCommand::Run() {
  RETURN_IF_ERROR(Prepare());
  said_ << DescribeLoad(report_.model, bench_) << "\n\n" << TableHead(bench_) << std::flush;
  absl::Status status = RunAll();
  if (!status.ok() && !absl::IsCancelled(status)) return status;
  said_ << "\n" << DescribeRun(RunToDescribe(), bench_);
  said_ << DescribeHistory(report_.runs) << std::flush;
  return WriteReports();
}

ExitCode BenchCommand::exit_code() const {
  const std::vector<BenchRun>& runs = report_.runs;
  const auto is_wrong = [](const BenchRun& run) { return !run.summary.history_is_right(); };
  if (!runs.empty() && runs.back().summary.interrupted) return kExitInterrupted;
  if (std::any_of(runs.begin(), runs.end(), is_wrong)) return kExitFailed;
  if (bench_.find_rate) return report_.highest_valid_rate ? kExitDone : kExitFailed;
  // Several rates are a survey: some are meant to be too much.
  const bool judged = runs.size() == 1 && runs[0].summary.verdict.has_value();
  return judged && !runs[0].summary.verdict->valid ? kExitFailed : kExitDone;
}

absl::Status BenchCommand::Prepare() {
  RequestMix mix = bench_.mix;
  for (const std::string& path : bench_.pictures) {
    auto picture = ReadPicture(path, terminal_.in);
    if (!picture.ok()) {
      return absl::NotFoundError(
          absl::StrCat(path, ": ", absl::string_view(picture.status().message())));
    }
    mix.pictures.push_back(*std::move(picture));
  }
  requests_ = DrawRequests(mix, bench_.distinct, bench_.load.pacer.seed);
  // One question on each connection: none has yet to be made when the load begins.
  for (int i = 0; i < bench_.connections; ++i) {
    ASSIGN_OR_RETURN(report_.model, client_.GetModel(terminal_.now() + kPatience));
  }
  return absl::OkStatus();
}

absl::Status BenchCommand::RunAll() {
  if (bench_.find_rate) return FindRate();
  if (bench_.rates.empty()) return RunAt(0).status();
  for (const double rate : bench_.rates) RETURN_IF_ERROR(RunAt(rate).status());
  return absl::OkStatus();
}

absl::Status BenchCommand::FindRate() {
  const double first = bench_.rates.empty() ? 1 : bench_.rates[0];
  const absl::StatusOr<double> found =
      FindHighestValidRate({.first = first}, [this](double rate) -> absl::StatusOr<bool> {
        const absl::StatusOr<LoadSummary> summary = RunAt(rate);
        if (!summary.ok()) return summary.status();
        return summary->verdict->valid;
      });
  if (absl::IsNotFound(found.status())) {
    said_ << "\n" << std::string(found.status().message()) << "\n";
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(found.status());
  report_.highest_valid_rate = *found;
  for (const double times : bench_.overload) RETURN_IF_ERROR(RunAt(times * *found).status());
  said_ << absl::StrFormat("\nhighest valid rate: %g requests per second\n", *found);
  return absl::OkStatus();
}

absl::StatusOr<LoadSummary> BenchCommand::RunAt(double rate) {
  LoadOptions load = bench_.load;
  load.pacer.rate = rate;
  StatusLine line(terminal_.err);
  LoadWatch watch{.interrupted = &terminal_.interrupted};
  if (terminal_.err_is_terminal) {
    watch.on_progress = [&](const LoadProgress& progress) {
      line.Show(absl::StrFormat("%s: %d sent, %d running, %d finished, %d refused",
                                FormatTime(progress.elapsed), progress.sent, progress.running,
                                progress.finished, progress.refused));
    };
  }
  ServerTarget target(client_, terminal_.now);
  const History history = RunLoad(load, requests_, target, watch);
  line.Erase();
  report_.runs.push_back({.rate = rate, .summary = Summarize(history, bench_.targets)});
  said_ << TableRow(report_.runs.back(), bench_) << std::flush;
  if (history.interrupted) return absl::CancelledError("interrupted");
  return report_.runs.back().summary;
}

// The one that counts: at the rate that was found, else the last.
const BenchRun& BenchCommand::RunToDescribe() const {
  const std::vector<BenchRun>& runs = report_.runs;
  const auto found = std::find_if(runs.begin(), runs.end(), [&](const BenchRun& run) {
    return run.rate == report_.highest_valid_rate;
  });
  return found == runs.end() ? runs.back() : *found;
}

absl::Status BenchCommand::WriteReports() {
  if (!bench_.json.empty()) RETURN_IF_ERROR(Write(bench_.json, ToJson(report_)));
  if (!bench_.plot.empty()) RETURN_IF_ERROR(Write(bench_.plot, DrawPlot(report_)));
  return absl::OkStatus();
}

absl::Status BenchCommand::Write(const std::string& path, const std::string& bytes) {
  if (path != "-") return WriteResult(path, bytes, Existing::kReplace).status();
  terminal_.out << bytes << std::flush;
  return terminal_.out ? absl::OkStatus() : absl::DataLossError("stdout took no more bytes");
}

absl::StatusOr<Client> Connect(const Arguments& arguments) {
  ASSIGN_OR_RETURN(ConnectOptions options,
                   MakeConnectOptions(arguments.server, arguments.connection));
  options.connections = arguments.bench.connections;
  return Client::Connect(std::move(options));
}

}  // namespace

ExitCode RunBench(const Arguments& arguments, const Terminal& terminal) {
  const auto client = Connect(arguments);
  absl::Status status = client.status();
  if (status.ok()) {
    BenchCommand command(arguments, terminal, *client);
    status = command.Run();
    if (status.ok()) return command.exit_code();
  }
  terminal.err << "image-variations: " << Explain(status, arguments) << std::endl;
  return ExitCodeOf(status);
}

}  // namespace image_variations::client
