#include "pipeline/base/log.h"

#include <unistd.h>

#include <atomic>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "pipeline/base/json_value.h"

namespace image_variations {
namespace {

std::atomic<Severity> min_severity{Severity::kInfo};

absl::string_view Name(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return "DEBUG";
    case Severity::kInfo:
      return "INFO";
    case Severity::kWarning:
      return "WARNING";
    case Severity::kError:
      return "ERROR";
  }
  return "";
}

}  // namespace

LogField::LogField(absl::string_view name, absl::string_view text)
    : json_(absl::StrCat(QuotedJson(name), ":", QuotedJson(text))) {}

LogField::LogField(absl::string_view name, int64_t number)
    : json_(absl::StrCat(QuotedJson(name), ":", number)) {}

LogField::LogField(absl::string_view name, double number)
    : json_(absl::StrCat(QuotedJson(name), ":",
                         std::isfinite(number) ? absl::StrFormat("%.6g", number) : "null")) {}

LogField::LogField(absl::string_view name, bool truth)
    : json_(absl::StrCat(QuotedJson(name), ":", truth ? "true" : "false")) {}

void Log(Severity severity, absl::string_view message, std::initializer_list<LogField> fields) {
  if (severity < min_severity.load(std::memory_order_relaxed)) return;
  std::string line = absl::StrCat(
      "{\"time\":\"", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()),
      "\",\"severity\":\"", Name(severity), "\",\"message\":", QuotedJson(message));
  for (const LogField& field : fields) absl::StrAppend(&line, ",", field.json());
  line += "}\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void SetMinLogSeverity(Severity severity) { min_severity = severity; }

}  // namespace image_variations
