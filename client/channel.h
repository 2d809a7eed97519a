// A connection to a server, with TLS and the caller's token; internal to the client library.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "grpcpp/channel.h"

namespace image_variations::client {

// Returns at once, before there is a connection. INVALID_ARGUMENT: no address, half a certificate,
// or a token that would travel in plaintext to another machine.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ConnectOptions&);

}  // namespace image_variations::client
