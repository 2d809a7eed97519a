#pragma once

#include "client/cli/arguments.h"
#include "client/cli/exit_code.h"
#include "client/cli/terminal.h"

namespace image_variations::client {

// `image-variations bench`: the runs that were asked for, one after the other, and their report.
ExitCode RunBench(const Arguments&, const Terminal&);

}  // namespace image_variations::client
