#pragma once

#include "client/cli/arguments.h"
#include "client/cli/exit_code.h"
#include "client/cli/terminal.h"

namespace image_variations::client {

// `image-variations vary`: each picture in turn, its results as they arrive, then the contact
// sheet. What fails for one picture does not keep the others from being done, unless the server is
// gone.
ExitCode RunVary(const Arguments&, const Terminal&);

}  // namespace image_variations::client
