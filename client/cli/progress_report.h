// One picture's progress: a bar redrawn in place on a terminal, plain lines otherwise.
#pragma once

#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "client/cli/status_line.h"
#include "client/client.h"

namespace image_variations::client {

enum class ProgressStyle { kBar, kLines, kQuiet };

// "0:07", "12:30", "1:02:03".
std::string FormatClock(absl::Duration);

// Thread-compatible. `out` must outlive it.
class ProgressReport {
 public:
  ProgressReport(std::ostream& out, ProgressStyle style, std::string picture);

  void OnAdmitted(const Admitted&);
  void OnProgress(const Progress&);
  void OnRetry(absl::string_view why, const Retry&, int max_attempts);
  // A line of its own, above the bar. Not when quiet.
  void Say(absl::string_view text);

 private:
  std::ostream& out_;
  const ProgressStyle style_;
  const std::string picture_;
  StatusLine bar_;       // taken away with the report
  int tenths_said_ = 0;  // of the steps, in plain lines
};

}  // namespace image_variations::client
