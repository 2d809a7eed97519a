// How the command line says with what a server is met: TLS, certificates, a token.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace image_variations::client {

struct ConnectionArguments {
  bool tls = false;  // also when one of the files is given
  std::string ca_file = {};
  std::string certificate_file = {};
  std::string key_file = {};
  std::string token_file = {};
};

// Declares --tls, --ca, --cert, --key and --token-file.
void AddConnectionOptions(CLI::App& command, ConnectionArguments&);

// Reads the files. INVALID_ARGUMENT names the one that cannot be read.
absl::StatusOr<ConnectOptions> MakeConnectOptions(const std::string& server,
                                                  const ConnectionArguments&);

}  // namespace image_variations::client
