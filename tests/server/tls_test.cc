// Who gets through the gRPC port's TLS, and what happens when its files are replaced.
#include "server/tls.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "server/self_dial.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_certificates.h"
#include "tests/server/test_server.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using grpc::StatusCode;
using ::testing::HasSubstr;

std::shared_ptr<grpc::ChannelCredentials> Trusting(const std::string& ca, const KeyPair& own = {}) {
  return grpc::SslCredentials(
      {.pem_root_certs = ca, .pem_private_key = own.key, .pem_cert_chain = own.certificate});
}

// A connection of its own.
std::shared_ptr<grpc::Channel> NewChannel(const TestServer& server,
                                          std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(server.address(), std::move(credentials), arguments);
}

grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  v1::GetModelResponse response;
  return v1::VariationService::NewStub(channel)->GetModel(&context, {}, &response);
}

// Files of a server's certificate, and who has signed what.
class Tls : public ::testing::Test {
 protected:
  void WriteServer(const KeyPair& own) const {
    folder_.Write("key", own.key);
    folder_.Write("certificate", own.certificate);
  }
  TlsFiles Files() const {
    return {.certificate = folder_.path() / "certificate", .key = folder_.path() / "key"};
  }
  TlsFiles MutualFiles() const {
    TlsFiles files = Files();
    files.client_ca = folder_.Write("clients", clients_.certificate());
    return files;
  }
  static std::unique_ptr<TestServer> Start(const TlsFiles& files) {
    return std::make_unique<TestServer>(
        TestServerOptions{.listener = {.address = "127.0.0.1:0", .tls = files}});
  }
  StatusCode CodeOf(const TestServer& server,
                    std::shared_ptr<grpc::ChannelCredentials> credentials) const {
    return Call(NewChannel(server, std::move(credentials))).error_code();
  }
  std::string ErrorOf(const TlsFiles& files) const {
    return std::string(ReadTlsFiles(files).status().message());
  }

  const TemporaryFolder folder_;
  const CertificateAuthority servers_{"servers"}, clients_{"clients"}, strangers_{"strangers"};
};

TEST_F(Tls, CallersWhoTrustTheServerGetThroughOthersDoNot) {
  WriteServer(servers_.Issue("server"));
  const auto server = Start(Files());
  EXPECT_EQ(CodeOf(*server, Trusting(servers_.certificate())), StatusCode::OK);
  EXPECT_EQ(CodeOf(*server, Trusting(strangers_.certificate())), StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(*server, grpc::InsecureChannelCredentials()), StatusCode::UNAVAILABLE);
}

TEST_F(Tls, ExpiredServerIsNotTrusted) {
  WriteServer(servers_.Issue("server", kExpired));
  const auto server = Start(Files());
  EXPECT_EQ(CodeOf(*server, Trusting(servers_.certificate())), StatusCode::UNAVAILABLE);
}

TEST_F(Tls, WithClientCaCallersNeedACertificateOfIts) {
  WriteServer(servers_.Issue("server"));
  const auto server = Start(MutualFiles());
  const std::string& ca = servers_.certificate();
  EXPECT_EQ(CodeOf(*server, Trusting(ca, clients_.Issue("a"))), StatusCode::OK);
  EXPECT_EQ(CodeOf(*server, Trusting(ca)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(*server, Trusting(ca, strangers_.Issue("a"))), StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(*server, Trusting(ca, clients_.Issue("a", kExpired))), StatusCode::UNAVAILABLE);
  EXPECT_EQ(CodeOf(*server, grpc::InsecureChannelCredentials()), StatusCode::UNAVAILABLE);
}

// Calls without end: half of them on connections that stay, half on new ones.
class Traffic {
 public:
  Traffic(const TestServer& server, std::shared_ptr<grpc::ChannelCredentials> credentials) {
    for (const bool reconnects : {false, false, true, true}) {
      callers_.emplace_back([this, &server, credentials, reconnects] {
        auto channel = NewChannel(server, credentials);
        while (!is_over_) {
          if (reconnects) channel = NewChannel(server, credentials);
          const grpc::Status status = Call(channel);
          if (!status.ok()) ADD_FAILURE() << status.error_message();
          failures_ += !status.ok();
          ++calls_;
        }
      });
    }
  }

  void WaitForCalls(int more = 20) {
    const int enough = calls_ + more;
    EXPECT_TRUE(Eventually([&] { return calls_ >= enough; }));
  }
  // How many calls failed.
  int End() {
    is_over_ = true;
    for (std::thread& caller : callers_) caller.join();
    ::testing::Test::RecordProperty("calls", calls_);
    ::testing::Test::RecordProperty("dropped", failures_);
    return failures_;
  }

 private:
  std::atomic<bool> is_over_ = false;
  std::atomic<int> calls_ = 0;
  std::atomic<int> failures_ = 0;
  std::vector<std::thread> callers_;
};

// For one of another authority, in the wrong order: for a while it does not fit its key.
TEST_F(Tls, ExchangeOfTheCertificateDropsNoCall) {
  WriteServer(servers_.Issue("server"));
  const auto server = Start(Files());
  Traffic traffic(*server, Trusting(servers_.certificate() + strangers_.certificate()));
  traffic.WaitForCalls();
  const KeyPair next = strangers_.Issue("server");
  folder_.Write("certificate", next.certificate);
  traffic.WaitForCalls();
  EXPECT_EQ(CodeOf(*server, Trusting(strangers_.certificate())), StatusCode::UNAVAILABLE);
  folder_.Write("key", next.key);
  traffic.WaitForCalls();
  EXPECT_EQ(CodeOf(*server, Trusting(strangers_.certificate())), StatusCode::OK);
  EXPECT_EQ(CodeOf(*server, Trusting(servers_.certificate())), StatusCode::UNAVAILABLE);
  EXPECT_EQ(traffic.End(), 0);
}

TEST_F(Tls, ExchangeOfTheClientCaDropsNoCall) {
  WriteServer(servers_.Issue("server"));
  const auto server = Start(MutualFiles());
  const std::string& ca = servers_.certificate();
  const CertificateAuthority next("next clients");
  Traffic traffic(*server, Trusting(ca, clients_.Issue("a")));
  traffic.WaitForCalls();
  EXPECT_EQ(CodeOf(*server, Trusting(ca, next.Issue("b"))), StatusCode::UNAVAILABLE);
  folder_.Write("clients", "nobody");  // what was there goes on
  traffic.WaitForCalls();
  folder_.Write("clients", clients_.certificate() + next.certificate());
  traffic.WaitForCalls();
  EXPECT_EQ(CodeOf(*server, Trusting(ca, next.Issue("b"))), StatusCode::OK);
  EXPECT_EQ(traffic.End(), 0);

  Traffic others(*server, Trusting(ca, next.Issue("b")));
  others.WaitForCalls();
  folder_.Write("clients", next.certificate());
  others.WaitForCalls();
  EXPECT_EQ(CodeOf(*server, Trusting(ca, clients_.Issue("a"))), StatusCode::UNAVAILABLE);
  EXPECT_EQ(others.End(), 0);
}

TEST_F(Tls, FilesThatAreNotInOrderAreNamed) {
  const KeyPair own = servers_.Issue("server");
  WriteServer(own);
  EXPECT_EQ(ReadTlsFiles(Files()).status(), absl::OkStatus());
  folder_.Write("key", servers_.Issue("other").key);
  EXPECT_THAT(ErrorOf(Files()), HasSubstr("key: not the key of the first certificate in"));
  folder_.Write("key", "no key");
  EXPECT_THAT(ErrorOf(Files()), HasSubstr("key: no PEM private key"));
  folder_.Write("certificate", "no certificate");
  EXPECT_THAT(ErrorOf(Files()), HasSubstr("certificate: no PEM certificate"));
  EXPECT_THAT(ErrorOf({.certificate = "/no/file"}), HasSubstr("/no/file: No such file"));
  WriteServer(own);
  TlsFiles files = Files();
  files.client_ca = folder_.Write("clients", "nobody");
  EXPECT_THAT(ErrorOf(files), HasSubstr("clients: no PEM certificate"));
}

TEST_F(Tls, SelfDialGetsThroughWithoutACertificateOfItsOwn) {
  WriteServer(servers_.Issue("server"));
  const auto server = Start(MutualFiles());
  EXPECT_EQ(DialOnce(server->address(), /*uses_tls=*/true, absl::Seconds(10)), absl::OkStatus());
}

// As a health port's: ready, whatever is dialed, until the port is gone.
TEST_F(Tls, SelfDialFindsAServerWithMutualTlsReadyUntilItIsGone) {
  WriteServer(servers_.Issue("server"));
  auto server = Start(MutualFiles());
  std::atomic<bool> is_gone = false;
  std::atomic<int> lost = 0;
  const SelfDial dial({.address = server->address(),
                       .uses_tls = true,
                       .interval = absl::Milliseconds(10),
                       .timeout = absl::Seconds(10),
                       .failures_to_notice = 1},
                      [&](bool is_reachable) {
                        EXPECT_TRUE(is_gone);
                        lost += !is_reachable;
                      });
  for (int i = 0; i < 5; ++i) {  // some dials later
    EXPECT_EQ(DialOnce(server->address(), /*uses_tls=*/true, absl::Seconds(10)), absl::OkStatus());
  }
  is_gone = true;
  server.reset();
  EXPECT_TRUE(Eventually([&] { return lost == 1; }));
}

TEST(Plaintext, IsForLoopbackUnlessAskedFor) {
  const absl::Status refused = OpenEndpoint({.address = "0.0.0.0:0"}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--plaintext anywhere"));
  EXPECT_TRUE(OpenEndpoint({.address = "0.0.0.0:0", .plaintext_anywhere = true}).ok());
  for (const char* address : {"127.0.0.1:0", "127.1.2.3:0", "localhost:0", "[::1]:0"}) {
    const absl::StatusOr<Endpoint> endpoint = OpenEndpoint({.address = address});
    if (absl::IsUnavailable(endpoint.status())) continue;  // a machine without IPv6
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  }
}

TEST(SelfDial, TellsWhenThePortDoesNotAnswerAndWhenItDoes) {
  ListenSocket silent = ListenSocket::Open("127.0.0.1:0").value();
  EXPECT_FALSE(DialOnce(silent.numeric, /*uses_tls=*/false, absl::Milliseconds(50)).ok());
  EXPECT_FALSE(DialOnce(silent.numeric, /*uses_tls=*/true, absl::Milliseconds(50)).ok());

  std::atomic<int> lost = 0;
  std::atomic<int> found = 0;
  const std::string address = silent.address;
  const SelfDial dial({.address = silent.numeric,
                       .interval = absl::Milliseconds(10),
                       .timeout = absl::Seconds(5),
                       .failures_to_notice = 2},
                      [&](bool is_reachable) { ++(is_reachable ? found : lost); });
  silent.fd.Close();
  EXPECT_TRUE(Eventually([&] { return lost == 1; }));
  const TestServer server({.listener = {.address = address}});
  EXPECT_TRUE(Eventually([&] { return found == 1; }));
  EXPECT_EQ(lost, 1);
}

}  // namespace
}  // namespace image_variations
