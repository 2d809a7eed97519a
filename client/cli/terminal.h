// The world as the command line program sees it: main.cc gives it the real one, tests a pretended
// one.
#pragma once

#include <atomic>
#include <functional>
#include <istream>
#include <ostream>

#include "absl/time/time.h"

namespace image_variations::client {

struct Terminal {
  std::istream& in;
  std::ostream& out;  // results: paths, JSON, image bytes
  std::ostream& err;  // everything said to a person
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  const std::atomic<bool>& interrupted;  // Ctrl-C was pressed
  std::function<absl::Time()> now;
  std::function<void(absl::Duration)> sleep;
};

}  // namespace image_variations::client
