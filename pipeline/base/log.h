// Structured log: one JSON object per line on stderr, {"time", "severity", "message", fields...}.
// Never pass image bytes, seeds, embeddings or tokens.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

enum class Severity { kDebug, kInfo, kWarning, kError };

// A named value of a log line; numbers stay numbers in the JSON.
class LogField {
 public:
  LogField(absl::string_view name, absl::string_view text);
  LogField(absl::string_view name, const char* text) : LogField(name, absl::string_view(text)) {}
  LogField(absl::string_view name, int64_t number);
  LogField(absl::string_view name, int number) : LogField(name, int64_t{number}) {}
  LogField(absl::string_view name, double number);
  LogField(absl::string_view name, bool truth);

  const std::string& json() const { return json_; }  // "name":value

 private:
  std::string json_;
};

// Writes one line with one write(2), so that lines of several threads do not mix. Thread-safe.
void Log(Severity, absl::string_view message, std::initializer_list<LogField> fields = {});

// Lines below this severity are dropped (default kInfo). Thread-safe; set once at start.
void SetMinLogSeverity(Severity);

}  // namespace image_variations
