// The command line program, whole: what main.cc and its tests call.
#pragma once

#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/terminal.h"

namespace image_variations::client {

// `words`: the command line without the program's name.
ExitCode RunCli(const std::vector<std::string>& words, const Terminal&);

}  // namespace image_variations::client
