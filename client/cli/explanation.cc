#include "client/cli/explanation.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/cli/progress_report.h"
#include "client/error_details.h"

namespace image_variations::client {
namespace {

// gRPC nests causes: "failed to connect to all addresses; last error: UNKNOWN: ...: Connection
// refused".
absl::string_view InnermostCause(absl::string_view message) {
  const size_t colon = message.rfind(": ");
  return colon == absl::string_view::npos ? message : message.substr(colon + 2);
}

// UNAVAILABLE came from gRPC, not from a server that starts or drains.
bool HasNoAnswer(const absl::Status& status) {
  return absl::IsUnavailable(status) && DecodeErrorDetails(status).reason.empty();
}

std::string ExplainBadRequest(absl::string_view message, const ErrorDetails& details) {
  std::string text(message);
  for (const FieldViolation& violation : details.field_violations) {
    if (absl::StrContains(text, violation.description)) continue;
    absl::StrAppend(&text, "\n  ", violation.field, ": ", violation.description);
  }
  if (details.reason == "INVALID_FIELD") {
    absl::StrAppend(&text, " (`image-variations info` lists what the server accepts)");
  }
  return text;
}

std::string ExplainRefusal(absl::string_view message, const ErrorDetails& details) {
  if (!details.retry_after) return absl::StrCat(message, " (refused by the server)");
  return absl::StrCat(message, " (refused by the server; it may take the work in ",
                      FormatClock(*details.retry_after), ", see --retries)");
}

}  // namespace

std::string DescribeCause(const absl::Status& status, const Arguments& arguments) {
  const absl::string_view message = status.message();
  if (!HasNoAnswer(status)) return std::string(message);
  return absl::StrCat("no answer from ", arguments.server, " (", InnermostCause(message), ")");
}

std::string Explain(const absl::Status& status, const Arguments& arguments) {
  std::string cause = DescribeCause(status, arguments);
  const ErrorDetails details = DecodeErrorDetails(status);
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (!HasNoAnswer(status)) return ExplainRefusal(cause, details);
      return absl::StrCat(cause,
                          "; is image-variations-server running there? --server or "
                          "IMAGE_VARIATIONS_SERVER names another");
    case absl::StatusCode::kResourceExhausted:
      return ExplainRefusal(cause, details);
    case absl::StatusCode::kInvalidArgument:
      return ExplainBadRequest(cause, details);
    case absl::StatusCode::kUnauthenticated:
      return absl::StrCat(cause, "; --token-file or IMAGE_VARIATIONS_TOKEN_FILE names yours");
    case absl::StatusCode::kDeadlineExceeded:
      return absl::StrCat("not done within ", absl::FormatDuration(arguments.timeout),
                          "; give it more time (--timeout) or less to do");
    case absl::StatusCode::kCancelled:
      return "interrupted";
    default:
      return cause;
  }
}

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnauthenticated:
      return kExitServer;
    default:
      return kExitFailed;
  }
}

}  // namespace image_variations::client
