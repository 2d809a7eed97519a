#pragma once

#include <cstddef>
#include <ostream>
#include <string>

namespace image_variations::client {

// A line that is redrawn in place, without escape sequences. Thread-compatible; `out` must outlive
// it.
class StatusLine {
 public:
  explicit StatusLine(std::ostream& out) : out_(out) {}
  ~StatusLine() { Erase(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void Show(const std::string& line) {
    const size_t blanks = drawn_ > line.size() ? drawn_ - line.size() : 0;
    out_ << "\r" << line << std::string(blanks, ' ') << std::flush;
    drawn_ = line.size();
  }

  void Erase() {
    if (drawn_ == 0) return;
    out_ << "\r" << std::string(drawn_, ' ') << "\r" << std::flush;
    drawn_ = 0;
  }

 private:
  std::ostream& out_;
  size_t drawn_ = 0;  // characters on the screen
};

}  // namespace image_variations::client
