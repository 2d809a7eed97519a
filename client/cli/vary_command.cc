#include "client/cli/vary_command.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/cli/contact_sheet.h"
#include "client/cli/explanation.h"
#include "client/cli/files.h"
#include "client/cli/json_report.h"
#include "client/cli/picture_result.h"
#include "client/cli/progress_report.h"
#include "client/cli/sheet_row.h"
#include "client/client.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/codec.h"

namespace image_variations::client {
namespace {

constexpr int kMaxSheetRows = 100;  // the sheet is drawn in memory

absl::StatusOr<Client> Connect(const Arguments& arguments, const Terminal& terminal) {
  ASSIGN_OR_RETURN(ConnectOptions options,
                   MakeConnectOptions(arguments.server, arguments.connection));
  options.now = terminal.now;
  options.sleep = terminal.sleep;
  options.retry.max_attempts = arguments.vary.retries + 1;
  return Client::Connect(std::move(options));
}

ProgressStyle ChooseStyle(const Arguments& arguments, const Terminal& terminal) {
  if (arguments.vary.quiet) return ProgressStyle::kQuiet;
  return terminal.err_is_terminal ? ProgressStyle::kBar : ProgressStyle::kLines;
}

int64_t Count(const std::vector<Variation>& variations, Outcome outcome) {
  return std::count_if(variations.begin(), variations.end(),
                       [&](const Variation& each) { return each.outcome == outcome; });
}

// Of several pictures' exit codes the gravest one counts.
ptrdiff_t Gravity(ExitCode code) {
  constexpr ExitCode kAscending[] = {kExitDone, kExitSamplesMissing, kExitFailed, kExitServer,
                                     kExitInterrupted};
  return std::find(std::begin(kAscending), std::end(kAscending), code) - std::begin(kAscending);
}

bool HasMissingSamples(const VariationResult& result) {
  return Count(result.variations, Outcome::kGenerated) < std::ssize(result.variations);
}

// "4 variations in 3.2 s (seed 1, guidance 3, 25 steps, ddim)"
std::string Summarize(const VariationResult& result) {
  const auto& variations = result.variations;
  const int64_t made = Count(variations, Outcome::kGenerated);
  const int64_t blocked = Count(variations, Outcome::kFiltered);
  std::string text = absl::StrCat(made);
  if (made < std::ssize(variations)) absl::StrAppend(&text, " of ", variations.size());
  absl::StrAppend(&text, variations.size() == 1 ? " variation" : " variations");
  absl::StrAppendFormat(&text, " in %.1f s", absl::ToDoubleSeconds(result.metrics.total_time));
  if (blocked > 0) absl::StrAppend(&text, ", ", blocked, " blocked by the safety checker");
  for (const Variation& variation : variations) {
    if (variation.outcome != Outcome::kFailed) continue;
    absl::StrAppend(&text, ", variation ", variation.index, " failed: ", variation.error.message);
  }
  const EffectiveParameters& parameters = result.parameters;
  absl::StrAppend(&text, " (seed ", parameters.seed, ", guidance ", parameters.guidance_scale, ", ",
                  parameters.step_count, " steps, ", parameters.sampler, ")");
  return text;
}

class VaryCommand {
 public:
  VaryCommand(const Arguments& arguments, const Terminal& terminal, Client client)
      : arguments_(arguments),
        vary_(arguments.vary),
        terminal_(terminal),
        client_(std::move(client)) {}

  ExitCode Run();

 private:
  PictureResult VaryPicture(const std::string& picture, const std::string& stem);
  absl::Status CallServer(const std::string& stem, ProgressReport& report, PictureResult& result);
  absl::Status WriteVariation(const Variation&, const std::string& stem, ProgressReport&,
                              PictureResult&);
  absl::Status WritePreview(const Preview&, const std::string& stem) const;
  void Report(const PictureResult&);
  void ReportError(const PictureResult&);
  void NoteExitCode(ExitCode);
  absl::Status WriteSheet();
  bool writes_to_stdout() const { return vary_.out == "-"; }
  void PrintError(absl::string_view text) {
    terminal_.err << "image-variations: " << std::string(text) << std::endl;
  }

  const Arguments& arguments_;
  const VaryArguments& vary_;
  const Terminal& terminal_;
  const Client client_;
  ContactSheet sheet_;
  int sheet_rows_ = 0;
  absl::Status server_gone_;  // once not OK, nothing more is sent
  int not_sent_ = 0;
  ExitCode exit_code_ = kExitDone;
};

ExitCode VaryCommand::Run() {
  const std::vector<std::string> stems = MakeStems(vary_.pictures);
  for (size_t i = 0; i < vary_.pictures.size(); ++i) {
    const bool sent = server_gone_.ok();
    const PictureResult result = VaryPicture(vary_.pictures[i], stems[i]);
    Report(result);
    if (!sent) ++not_sent_;
    if (sent) ReportError(result);
    NoteExitCode(result.status.ok() && HasMissingSamples(result.result)
                     ? kExitSamplesMissing
                     : ExitCodeOf(result.status));
    if (!result.result.variations.empty() && ++sheet_rows_ <= kMaxSheetRows) {
      sheet_.AddRow(MakeSheetRow(result));
    }
  }
  if (not_sent_ > 0) PrintError(absl::StrCat("pictures that were not sent: ", not_sent_));
  if (absl::Status status = WriteSheet(); !status.ok()) {
    PrintError(absl::StrCat("contact sheet: ", absl::string_view(status.message())));
    NoteExitCode(kExitFailed);
  }
  return exit_code_;
}

PictureResult VaryCommand::VaryPicture(const std::string& picture, const std::string& stem) {
  PictureResult result{
      .picture = picture, .source = {}, .status = server_gone_, .result = {}, .files = {}};
  if (!result.status.ok()) return result;
  auto source = ReadPicture(picture, terminal_.in);
  if (!source.ok()) {
    result.status = source.status();
    return result;
  }
  result.source = *std::move(source);
  ProgressReport report(terminal_.err, ChooseStyle(arguments_, terminal_), picture);
  result.status = CallServer(stem, report, result);
  if (absl::IsUnavailable(result.status) || absl::IsCancelled(result.status)) {
    server_gone_ = result.status;
  }
  if (result.status.ok()) report.Say(absl::StrCat(picture, ": ", Summarize(result.result)));
  return result;
}

absl::Status VaryCommand::CallServer(const std::string& stem, ProgressReport& report,
                                     PictureResult& result) {
  VariationRequest request = vary_.request;
  request.image = result.source;
  request.deadline = terminal_.now() + arguments_.timeout;
  absl::Status written;
  VaryEvents events{.on_admitted = [&](const Admitted& admitted) { report.OnAdmitted(admitted); },
                    .on_progress = [&](const Progress& progress) { report.OnProgress(progress); },
                    .on_variation =
                        [&](const Variation& variation) {
                          written.Update(WriteVariation(variation, stem, report, result));
                          result.result.variations.push_back(variation);
                        },
                    .on_retry =
                        [&](const Retry& retry) {
                          report.OnRetry(DescribeCause(retry.why, arguments_), retry,
                                         vary_.retries + 1);
                        },
                    .cancelled = &terminal_.interrupted};
  if (!vary_.previews.empty()) {
    events.on_preview = [&](const Preview& preview) {
      written.Update(WritePreview(preview, stem));
    };
  }
  auto reply = client_.Vary(std::move(request), events);
  RETURN_IF_ERROR(reply.status());
  result.result = *std::move(reply);
  return written;
}

absl::Status VaryCommand::WriteVariation(const Variation& variation, const std::string& stem,
                                         ProgressReport& report, PictureResult& result) {
  if (variation.outcome != Outcome::kGenerated) return absl::OkStatus();
  if (writes_to_stdout()) {
    terminal_.out << variation.image << std::flush;
    return terminal_.out ? absl::OkStatus() : absl::DataLossError("stdout took no more bytes");
  }
  const std::string name =
      VariationFileName(stem, variation.index, variation.seed, variation.mime_type);
  ASSIGN_OR_RETURN(const WrittenFile file,
                   WriteResult((std::filesystem::path(vary_.out) / name).string(), variation.image,
                               vary_.force ? Existing::kReplace : Existing::kKeep));
  result.files[variation.index] = file.path;
  if (!file.note.empty()) report.Say(file.note);
  return absl::OkStatus();
}

absl::Status VaryCommand::WritePreview(const Preview& preview, const std::string& stem) const {
  const std::string name = PreviewFileName(stem, preview.index, preview.step, preview.mime_type);
  return WriteResult((std::filesystem::path(vary_.previews) / name).string(), preview.image,
                     Existing::kReplace)
      .status();
}

void VaryCommand::Report(const PictureResult& result) {
  if (arguments_.json) {
    terminal_.out << ToJson(result) << std::endl;
  } else {
    for (const auto& [index, path] : result.files) terminal_.out << path << "\n";
    terminal_.out << std::flush;
  }
}

void VaryCommand::ReportError(const PictureResult& result) {
  if (!result.status.ok()) {
    PrintError(absl::StrCat(result.picture, ": ", Explain(result.status, arguments_)));
  } else if (vary_.quiet && HasMissingSamples(result.result)) {
    PrintError(absl::StrCat(result.picture, ": ", Summarize(result.result)));
  }
}

void VaryCommand::NoteExitCode(ExitCode code) {
  if (Gravity(code) > Gravity(exit_code_)) exit_code_ = code;
}

absl::Status VaryCommand::WriteSheet() {
  const bool named = !vary_.sheet.empty();
  if (vary_.no_sheet || sheet_.empty() || (writes_to_stdout() && !named)) return absl::OkStatus();
  // Made of generated pictures, so marked as such.
  EncodeOptions options;
  if (!vary_.request.omit_metadata) options.parameters = "Contact sheet";
  ASSIGN_OR_RETURN(const std::string bytes, EncodeImage(sheet_.Draw(), options));
  const std::string path =
      named ? vary_.sheet : (std::filesystem::path(vary_.out) / "contact-sheet.png").string();
  ASSIGN_OR_RETURN(
      const WrittenFile file,
      WriteResult(path, bytes, named || vary_.force ? Existing::kReplace : Existing::kKeep));
  if (!file.note.empty() && !vary_.quiet) terminal_.err << file.note << std::endl;
  if (sheet_rows_ > kMaxSheetRows) {
    PrintError(absl::StrCat("the contact sheet shows the first ", kMaxSheetRows, " pictures"));
  }
  if (!arguments_.json && !writes_to_stdout()) terminal_.out << file.path << std::endl;
  return absl::OkStatus();
}

// What must hold before anything is read, sent or written.
absl::Status Prepare(const Arguments& arguments, const Terminal& terminal) {
  const VaryArguments& vary = arguments.vary;
  const bool reads_stdin =
      std::find(vary.pictures.begin(), vary.pictures.end(), "-") != vary.pictures.end();
  if (reads_stdin && terminal.in_is_terminal) {
    return absl::InvalidArgumentError(
        "- reads a picture from stdin, which is this terminal; pipe one in, or name a file");
  }
  for (const std::string& folder : {vary.out, vary.previews}) {
    if (folder.empty() || folder == "-") continue;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return absl::ErrnoToStatus(error.value(), folder);
  }
  if (vary.out == "-" && terminal.out_is_terminal) {
    return absl::InvalidArgumentError(
        "-o - writes image bytes to stdout, which is this terminal; redirect it (> variation.png), "
        "or name a folder");
  }
  return absl::OkStatus();
}

}  // namespace

ExitCode RunVary(const Arguments& arguments, const Terminal& terminal) {
  if (absl::Status status = Prepare(arguments, terminal); !status.ok()) {
    terminal.err << "image-variations: " << std::string(status.message()) << std::endl;
    return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailed;
  }
  auto client = Connect(arguments, terminal);
  if (!client.ok()) {
    terminal.err << "image-variations: " << std::string(client.status().message()) << std::endl;
    return kExitUsage;
  }
  return VaryCommand(arguments, terminal, *std::move(client)).Run();
}

}  // namespace image_variations::client
