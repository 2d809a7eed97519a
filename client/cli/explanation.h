// Errors as a person reads them: what happened, and what to do next.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/cli/arguments.h"
#include "client/cli/exit_code.h"

namespace image_variations::client {

std::string Explain(const absl::Status&, const Arguments&);

ExitCode ExitCodeOf(const absl::Status&);

}  // namespace image_variations::client
