#include "client/channel.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/client_interceptor.h"

namespace image_variations::client {
namespace {

// Health is watched, so that a replica that drains gets no new calls while it still takes them.
constexpr char kBalanced[] =
    R"({"loadBalancingConfig":[{"round_robin":{}}],)"
    R"("healthCheckConfig":{"serviceName":"imagevariations.v1.VariationService"}})";

// Adds the token to what a call sends first.
class TokenSender final : public grpc::experimental::Interceptor {
 public:
  explicit TokenSender(const std::string& authorization) : authorization_(authorization) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", authorization_});
    }
    methods->Proceed();
  }

 private:
  const std::string& authorization_;
};

class TokenSenderFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenSenderFactory(const std::string& token)
      : authorization_(absl::StrCat("Bearer ", token)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new TokenSender(authorization_);
  }

 private:
  const std::string authorization_;  // lives as long as the channel, which its calls keep
};

// One of those of a list.
bool IsOnThisMachine(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const absl::string_view host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  const bool is_number = std::all_of(host.begin(), host.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.';
  });  // 127.example.com is anybody's
  return is_number && absl::StartsWith(host, "127.");
}

std::vector<std::string> AddressesIn(const ConnectOptions& options) {
  return absl::StrSplit(options.address, ',');
}

// Several replicas: each call goes to the next one that says that it serves.
bool IsBalanced(const ConnectOptions& options) {
  return AddressesIn(options).size() > 1 || absl::StartsWith(options.address, "dns:");
}

// gRPC has a scheme for lists of numbers, none for lists of names.
std::string TargetOf(const ConnectOptions& options) {
  const std::vector<std::string> addresses = AddressesIn(options);
  if (addresses.size() == 1) return options.address;
  return absl::StrCat(absl::StartsWith(options.address, "[") ? "ipv6:" : "ipv4:", options.address);
}

bool IsNumber(absl::string_view address) {
  return std::all_of(address.begin(), address.end(), [](char c) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || absl::StrContains(".:[]", c);
  });
}

absl::Status Check(const ConnectOptions& options) {
  if (options.address.empty()) return absl::InvalidArgumentError("the server's address is empty");
  const std::vector<std::string> addresses = AddressesIn(options);
  const auto is_numbered = [](const std::string& address) {
    return !address.empty() && IsNumber(address);
  };
  if (addresses.size() > 1 && !std::all_of(addresses.begin(), addresses.end(), is_numbered)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a list of replicas needs numbers, such as 10.0.0.1:50051,10.0.0.2:50051, not ",
        options.address, "; for a name with several addresses: dns:///NAME:PORT"));
  }
  if (options.tls && options.tls->certificate.empty() != options.tls->key.empty()) {
    return absl::InvalidArgumentError("a client certificate and its key belong together");
  }
  if (!options.token.empty() && !options.tls &&
      !std::all_of(addresses.begin(), addresses.end(), IsOnThisMachine)) {
    return absl::InvalidArgumentError(absl::StrCat("the token would travel to ", options.address,
                                                   " in plaintext: connect with TLS"));
  }
  return absl::OkStatus();
}

std::shared_ptr<grpc::ChannelCredentials> CredentialsFor(const ConnectOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({.pem_root_certs = options.tls->ca,
                               .pem_private_key = options.tls->key,
                               .pem_cert_chain = options.tls->certificate});
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ConnectOptions& options) {
  if (absl::Status status = Check(options); !status.ok()) return status;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_reply_bytes);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // equal channels would share one
  if (IsBalanced(options)) {
    arguments.SetServiceConfigJSON(kBalanced);
    // A replica that was started again is found again.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  }
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!options.token.empty()) {
    interceptors.push_back(std::make_unique<TokenSenderFactory>(options.token));
  }
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      TargetOf(options), CredentialsFor(options), arguments, std::move(interceptors));
}

}  // namespace image_variations::client
