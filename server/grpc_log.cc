#include "server/grpc_log.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "grpc/support/log.h"
#include "pipeline/base/log.h"

namespace image_variations {
namespace {

// What gRPC calls an error, such as a stranger's bad handshake, is none of the server's.
Severity SeverityOf(gpr_log_severity severity) {
  switch (severity) {
    case GPR_LOG_SEVERITY_DEBUG:
      return Severity::kDebug;
    case GPR_LOG_SEVERITY_INFO:
      return Severity::kInfo;
    case GPR_LOG_SEVERITY_ERROR:
      return Severity::kWarning;
  }
  return Severity::kWarning;
}

void Write(gpr_log_func_args* line) {
  absl::string_view file = line->file;
  file.remove_prefix(file.rfind('/') + 1);  // npos + 1 is 0
  Log(SeverityOf(line->severity), "gRPC",
      {{"why", line->message}, {"where", absl::StrCat(file, ":", line->line)}});
}

}  // namespace

void TakeOverGrpcLog() { gpr_set_log_function(Write); }

}  // namespace image_variations
