#include "client/cli/connection.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

// "" for no file.
absl::StatusOr<std::string> Read(const std::string& path) {
  if (path.empty()) return "";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file) content << file.rdbuf();
  if (!file || content.str().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file ? "is empty" : std::strerror(errno)));
  }
  return content.str();
}

}  // namespace

void AddConnectionOptions(CLI::App& command, ConnectionArguments& connection) {
  command.add_flag("--tls", connection.tls, "Speak TLS with it");
  command
      .add_option("--ca", connection.ca_file,
                  "Who signs its certificate, PEM (default: whom the system trusts)")
      ->option_text("FILE");
  command.add_option("--cert", connection.certificate_file, "Your own certificate, PEM")
      ->option_text("FILE");
  command.add_option("--key", connection.key_file, "Its key, PEM")->option_text("FILE");
  command
      .add_option("--token-file", connection.token_file,
                  "Your token, or IMAGE_VARIATIONS_TOKEN_FILE")
      ->envname("IMAGE_VARIATIONS_TOKEN_FILE")
      ->option_text("FILE");
}

absl::StatusOr<ConnectOptions> MakeConnectOptions(const std::string& server,
                                                  const ConnectionArguments& connection) {
  ConnectOptions options{.address = server};
  TlsOptions tls;
  ASSIGN_OR_RETURN(tls.ca, Read(connection.ca_file));
  ASSIGN_OR_RETURN(tls.certificate, Read(connection.certificate_file));
  ASSIGN_OR_RETURN(tls.key, Read(connection.key_file));
  if (connection.tls || !tls.ca.empty() || !tls.certificate.empty() || !tls.key.empty()) {
    options.tls = std::move(tls);
  }
  ASSIGN_OR_RETURN(const std::string token, Read(connection.token_file));
  options.token = std::string(absl::StripAsciiWhitespace(token));
  return options;
}

}  // namespace image_variations::client
