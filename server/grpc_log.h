// The log lines of gRPC and protobuf themselves in the server's log: as JSON, under its level.
#pragma once

namespace image_variations {

// For the process. Which lines there are is gRPC's business: errors, unless GRPC_VERBOSITY says
// more.
void TakeOverGrpcLog();

// For the process, before threads use protobuf. It speaks of what callers send, known or not: its
// lines are of severity debug, as refusals are.
void TakeOverProtobufLog();

}  // namespace image_variations
