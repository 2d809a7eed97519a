// A gRPC port: its socket, TLS and limits, with health and reflection.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/connection_acceptor.h"
#include "server/listen_socket.h"
#include "server/tls.h"

namespace image_variations {

struct ListenerOptions {
  std::string address;              // HOST:PORT; port 0 takes a free one
  TlsFiles tls;                     // no certificate: plaintext
  bool plaintext_anywhere = false;  // not only where no other machine reaches it
  bool is_public = false;           // nothing secret passes: plaintext is no matter
  int max_connections = 1024;
  int max_concurrent_streams = 100;  // per connection
  int max_message_bytes = 16 << 20;
  int max_metadata_bytes = 16 << 10;
  int64_t max_transport_bytes = int64_t{1} << 30;          // buffers of all connections
  absl::Duration handshake_timeout = absl::Seconds(10);    // until HTTP/2 is spoken
  absl::Duration max_connection_idle = absl::Minutes(15);  // without a call; zero: for ever
  absl::Duration max_connection_age = absl::Hours(1);      // then calls go on; zero: for ever
  absl::Duration keepalive_interval = absl::Seconds(60);   // of asking a silent peer
  absl::Duration keepalive_timeout = absl::Seconds(20);    // for its answer
};

// A bound port and how callers are met there.
struct Endpoint {
  ListenSocket socket;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

// Finds what is wrong with the settings before anything is loaded: as ListenSocket::Open and
// MakeTlsCredentials. INVALID_ARGUMENT also: plaintext where other machines reach it.
absl::StatusOr<Endpoint> OpenEndpoint(const ListenerOptions&);

// A running gRPC server. Thread-safe.
class Listener final : private ConnectionOwner {
 public:
  // `services` must outlive the listener. `on_refused`: a connection was closed because there are
  // too many; on a thread of the listener's.
  static absl::StatusOr<std::unique_ptr<Listener>> Start(
      Endpoint, const ListenerOptions&, const std::vector<grpc::Service*>& services,
      std::function<void()> on_refused = [] {});
  ~Listener() override;  // cancels what runs

  const std::string& address() const { return socket_.address; }
  const std::string& numeric_address() const { return socket_.numeric; }
  grpc::HealthCheckServiceInterface& health() { return *server_->GetHealthCheckService(); }

  // Stops listening and hangs up. Returns when all calls have ended, with UNAVAILABLE for their
  // callers; those that have not noticed after `grace` are cancelled.
  void Shutdown(absl::Duration grace);

 private:
  Listener(ListenSocket socket, std::function<void()> on_refused)
      : socket_(std::move(socket)), on_refused_(std::move(on_refused)) {}
  void Take(FileDescriptor) override;
  void OnRefused() override { on_refused_(); }

  ListenSocket socket_;
  const std::function<void()> on_refused_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> entrance_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;  // until Shutdown
};

}  // namespace image_variations
