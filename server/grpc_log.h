// gRPC's own log lines in the server's log: as JSON, under its level.
#pragma once

namespace image_variations {

// For the process. Which lines there are is gRPC's business: errors, unless GRPC_VERBOSITY says
// more.
void TakeOverGrpcLog();

}  // namespace image_variations
