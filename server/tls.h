// TLS of the gRPC port, from files that may be replaced while it serves.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"

namespace image_variations {

struct TlsFiles {
  std::string certificate;  // PEM: the server's own, then those between it and its authority
  std::string key;          // PEM, without passphrase
  std::string client_ca;    // PEM: who signs callers' certificates; empty: callers need none
};

struct TlsMaterial {
  std::string certificate;
  std::string key;
  std::string client_ca;
  absl::Time expires;  // the server's certificate
};

// INVALID_ARGUMENT: a file that is not what it should be, or a key that is not the certificate's.
absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles&);

// TLS 1.2 or 1.3. Each new connection is made with what the files hold at that moment, or held when
// they were last in order; connections that exist are not touched. Fails as ReadTlsFiles does.
//
// For ServerBuilder::AddExternalConnectionAcceptor with a single accepting thread: gRPC 1.51
// replaces certificates without a lock against a handshake that begins at the same time.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles&);

}  // namespace image_variations
