// The gRPC server's socket and limits, with health and reflection.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"

namespace image_variations {

struct ListenerOptions {
  std::string address;  // HOST:PORT; port 0 takes a free one
  int max_message_bytes = 16 << 20;
  int max_metadata_bytes = 16 << 10;
  int max_concurrent_streams = 100;  // per connection
};

// HOST:PORT with the port that was taken.
std::string WithPort(const std::string& address, int port);

// The address with its host as a number, after binding it for a moment: a clear error where a
// library would throw or say nothing. INVALID_ARGUMENT: not HOST:PORT, or no such host.
// UNAVAILABLE: cannot be bound, with the system's reason.
absl::StatusOr<std::string> ResolveListenAddress(const std::string& address);

// A running server. Plaintext. Thread-safe.
class Listener {
 public:
  // `service` must outlive the listener.
  static absl::StatusOr<std::unique_ptr<Listener>> Start(const ListenerOptions&,
                                                         grpc::Service& service);
  ~Listener();  // cancels what runs

  const std::string& address() const { return address_; }
  grpc::Server& server() { return *server_; }
  grpc::HealthCheckServiceInterface& health() { return *server_->GetHealthCheckService(); }

  // Stops listening; calls that still run after `grace` are cancelled. Returns when all have ended.
  void Shutdown(absl::Duration grace);

 private:
  Listener(std::unique_ptr<grpc::Server> server, std::string address)
      : server_(std::move(server)), address_(std::move(address)) {}

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace image_variations
