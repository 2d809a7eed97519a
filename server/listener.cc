#include "server/listener.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

// A call that was running when its connection came of age.
constexpr absl::Duration kAgeGrace = absl::Hours(1);
// Peers that ask more often than this without a call are told to stop; gRPC's own five minutes
// surprise those who keep connections open through routers.
constexpr absl::Duration kMinPingInterval = absl::Seconds(10);

int Milliseconds(absl::Duration time) {
  return static_cast<int>(
      std::min<int64_t>(absl::ToInt64Milliseconds(time), std::numeric_limits<int>::max()));
}

int MillisecondsOrNever(absl::Duration time) {
  return time == absl::ZeroDuration() ? std::numeric_limits<int>::max() : Milliseconds(time);
}

void SetLimits(const ListenerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetResourceQuota(
      grpc::ResourceQuota().Resize(static_cast<size_t>(options.max_transport_bytes)));
  const std::pair<const char*, int> arguments[] = {
      {GRPC_ARG_MAX_METADATA_SIZE, options.max_metadata_bytes},
      {GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams},
      {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, Milliseconds(options.handshake_timeout)},
      {GRPC_ARG_MAX_CONNECTION_IDLE_MS, MillisecondsOrNever(options.max_connection_idle)},
      {GRPC_ARG_MAX_CONNECTION_AGE_MS, MillisecondsOrNever(options.max_connection_age)},
      {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, Milliseconds(kAgeGrace)},
      {GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_interval)},
      {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(options.keepalive_timeout)},
      {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
      {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, Milliseconds(kMinPingInterval)},
  };
  for (const auto& [name, value] : arguments) builder.AddChannelArgument(name, value);
}

}  // namespace

absl::StatusOr<Endpoint> OpenEndpoint(const ListenerOptions& options) {
  Endpoint endpoint;
  ASSIGN_OR_RETURN(endpoint.socket, ListenSocket::Open(options.address));
  if (!options.tls.certificate.empty()) {
    ASSIGN_OR_RETURN(endpoint.credentials, MakeTlsCredentials(options.tls));
    return endpoint;
  }
  if (!endpoint.socket.is_loopback && !options.is_public) {
    if (!options.plaintext_anywhere) {
      return absl::InvalidArgumentError(absl::StrCat(
          options.address,
          " can be reached from other machines, and there is no TLS: give --tls-cert and "
          "--tls-key, or say --plaintext anywhere"));
    }
    Log(Severity::kWarning,
        "PLAINTEXT: pictures and tokens can be read and changed on their way by anybody between",
        {{"address", endpoint.socket.address}});
  }
  endpoint.credentials = grpc::InsecureServerCredentials();
  return endpoint;
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Start(
    Endpoint endpoint, const ListenerOptions& options, const std::vector<grpc::Service*>& services,
    std::function<void()> on_refused) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<Listener> listener(
      new Listener(std::move(endpoint.socket), std::move(on_refused)));
  grpc::ServerBuilder builder;
  listener->entrance_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(endpoint.credentials));
  SetLimits(options, builder);
  for (grpc::Service* service : services) builder.RegisterService(service);
  listener->server_ = builder.BuildAndStart();
  if (listener->server_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot serve gRPC on ", options.address));
  }
  ConnectionOwner& owner = *listener;
  listener->acceptor_ =
      std::make_unique<ConnectionAcceptor>(listener->socket_, options.max_connections, owner);
  return listener;
}

Listener::~Listener() {
  if (acceptor_ != nullptr) Shutdown(absl::ZeroDuration());
}

// A call that reaches gRPC 1.51 while it shuts down is answered CANCELLED, which callers take for
// their own doing and never try again. So its connections end first.
void Listener::Shutdown(absl::Duration grace) {
  acceptor_->HangUp(grace);
  acceptor_.reset();
  socket_.fd.Close();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

// gRPC closes the descriptor from here on, also when it refuses it.
void Listener::Take(FileDescriptor connection) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = socket_.fd.get();
  parameters.fd = connection.Release();
  entrance_->HandleNewConnection(&parameters);
}

}  // namespace image_variations
