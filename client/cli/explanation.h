// Errors as a person reads them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/cli/arguments.h"
#include "client/cli/exit_code.h"

namespace image_variations::client {

// What happened, alone: "no answer from HOST:PORT (Connection refused)".
std::string DescribeCause(const absl::Status&, const Arguments&);

// And what to do next.
std::string Explain(const absl::Status&, const Arguments&);

ExitCode ExitCodeOf(const absl::Status&);

}  // namespace image_variations::client
