// One picture's progress: a bar redrawn in place on a terminal, plain lines otherwise.
#pragma once

#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "client/client.h"

namespace image_variations::client {

enum class ProgressStyle { kBar, kLines, kQuiet };

// "0:07", "12:30", "1:02:03".
std::string FormatClock(absl::Duration);

// Thread-compatible. `out` must outlive it. Uses no colour and no escape sequence: a carriage
// return and blanks are enough for the bar.
class ProgressReport {
 public:
  ProgressReport(std::ostream& out, ProgressStyle style, std::string picture);
  ~ProgressReport();  // takes the bar away

  ProgressReport(const ProgressReport&) = delete;
  ProgressReport& operator=(const ProgressReport&) = delete;

  void OnAdmitted(const Admitted&);
  void OnProgress(const Progress&);
  void OnRetry(absl::string_view why, const Retry&, int max_attempts);
  // A line of its own, above the bar. Not when quiet.
  void Say(absl::string_view text);

 private:
  void Redraw(const std::string& line);
  void Erase();

  std::ostream& out_;
  const ProgressStyle style_;
  const std::string picture_;
  size_t drawn_ = 0;     // characters of the bar on the screen
  int tenths_said_ = 0;  // of the steps, in plain lines
};

}  // namespace image_variations::client
