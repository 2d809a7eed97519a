#include "server/grpc_log.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/stubs/logging.h"
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

std::string Place(absl::string_view file, int line) {
  file.remove_prefix(file.rfind('/') + 1);  // npos + 1 is 0
  return absl::StrCat(file, ":", line);
}

void WriteOfGrpc(gpr_log_func_args* line) {
  Log(SeverityOf(line->severity), "gRPC",
      {{"why", line->message}, {"where", Place(line->file, line->line)}});
}

// After a fatal line protobuf throws.
void WriteOfProtobuf(google::protobuf::LogLevel level, const char* file, int line,
                     const std::string& message) {
  const bool is_fatal = level == google::protobuf::LOGLEVEL_FATAL;
  Log(is_fatal ? Severity::kError : Severity::kDebug, "protobuf",
      {{"why", message}, {"where", Place(file, line)}});
}

}  // namespace

void TakeOverGrpcLog() { gpr_set_log_function(WriteOfGrpc); }

void TakeOverProtobufLog() { google::protobuf::SetLogHandler(WriteOfProtobuf); }

}  // namespace image_variations
