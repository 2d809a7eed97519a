// Who may call what, on the whole server: every cell of the table in docs/operating.md.
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "pipeline/base/sha256.h"
#include "tests/server/signed_token.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_certificates.h"
#include "tests/server/test_server.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using grpc::StatusCode;

std::string LineFor(const std::string& token, const std::string& more = "") {
  return absl::StrCat("owner-of-", token, " ", Sha256OfText(token), " ", more, "\n");
}

std::unique_ptr<grpc::ClientContext> ContextWith(const std::string& token) {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
  return context;
}

grpc::Status GetModel(v1::VariationService::Stub& stub, const std::string& token = "") {
  v1::GetModelResponse response;
  return stub.GetModel(ContextWith(token).get(), {}, &response);
}

grpc::Status GetStatus(v1::VariationService::Stub& stub, const std::string& token) {
  v1::GetServerStatusResponse response;
  return stub.GetServerStatus(ContextWith(token).get(), {}, &response);
}

grpc::Status Generate(v1::VariationService::Stub& stub, const std::string& token,
                      const v1::GenerateVariationsRequest& request = Request()) {
  v1::GenerateVariationsResponse response;
  return stub.GenerateVariations(ContextWith(token).get(), request, &response);
}

grpc::Status Stream(v1::VariationService::Stub& stub, const std::string& token) {
  const auto context = ContextWith(token);
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request();
  const auto stream = stub.StreamVariations(context.get(), request);
  v1::StreamVariationsResponse event;
  while (stream->Read(&event)) {
  }
  return stream->Finish();
}

// "CODE REASON", "0 " when all is well.
std::string Told(const grpc::Status& status) {
  return absl::StrCat(status.error_code(), " ", DetailsOf(status).reason);
}

constexpr char kServed[] = "0 ";
constexpr char kMissing[] = "16 TOKEN_MISSING";
constexpr char kInvalid[] = "16 TOKEN_INVALID";
constexpr char kNotAllowed[] = "7 NOT_ALLOWED";

// A caller, and what it hears from calls about the server and from calls for variations.
struct Cell {
  std::string who, token, about_server, variations;
};

void ExpectAnswers(TestServer& server, const std::vector<Cell>& cells) {
  for (const Cell& cell : cells) {
    SCOPED_TRACE(cell.who);
    EXPECT_EQ(Told(GetModel(server.stub(), cell.token)), cell.about_server);
    EXPECT_EQ(Told(GetStatus(server.stub(), cell.token)), cell.about_server);
    EXPECT_EQ(Told(Generate(server.stub(), cell.token)), cell.variations);
    EXPECT_EQ(Told(Stream(server.stub(), cell.token)), cell.variations);
  }
  EXPECT_EQ(server.Health(), "SERVING");
  ExpectIdle(server);
}

class Tokens : public ::testing::Test {
 protected:
  AuthenticatorOptions Write(const std::string& lines) const {
    return {.token_file = folder_.Write("tokens", lines)};
  }

  const TemporaryFolder folder_;
};

TEST_F(Tokens, EachCallIsServedOrRefusedByItsToken) {
  TestServer server({.authentication = Write(LineFor("good") + LineFor("monitor", "may=inspect") +
                                             LineFor("old", "until=2020-01-01T00:00:00Z"))});
  ExpectAnswers(server, {{"without", "", kMissing, kMissing},
                         {"unknown", "bad", kInvalid, kInvalid},
                         {"expired", "old", kInvalid, kInvalid},
                         {"right", "good", kServed, kServed},
                         {"may inspect", "monitor", kServed, kNotAllowed}});
}

TEST_F(Tokens, NobodyWithoutRightsHasTheirRequestLookedAt) {
  TestServer server({.authentication = Write(LineFor("good"))});
  v1::GenerateVariationsRequest bad;
  EXPECT_EQ(Told(Generate(server.stub(), "", bad)), kMissing);
  EXPECT_EQ(Told(Generate(server.stub(), "good", bad)), "3 INVALID_FIELD");
}

// Four callers who call again and again, all with one token.
class Traffic {
 public:
  Traffic(TestServer& server, const std::string& token) : token_(&token) {
    for (std::atomic<int>& own : calls_) {
      callers_.emplace_back([this, &server, &own] {
        while (!is_over_) {
          failures_ += !Generate(server.stub(), *token_.load()).ok();
          ++own;
        }
      });
    }
  }

  // Outlives the traffic.
  void ExchangeToken(const std::string& token) { token_ = &token; }
  void WaitForCallsOfEach(int more = 5) {
    for (const std::atomic<int>& own : calls_) {
      EXPECT_TRUE(Eventually([&, enough = own + more] { return own >= enough; }));
    }
  }
  // How many calls failed.
  int End() {
    is_over_ = true;
    for (std::thread& caller : callers_) caller.join();
    int calls = 0;
    for (const std::atomic<int>& own : calls_) calls += own;
    ::testing::Test::RecordProperty("calls", calls);
    ::testing::Test::RecordProperty("dropped", failures_);
    return failures_;
  }

 private:
  std::atomic<const std::string*> token_;
  std::atomic<bool> is_over_ = false;
  std::atomic<int> failures_ = 0;
  std::array<std::atomic<int>, 4> calls_{};  // by caller
  std::vector<std::thread> callers_;
};

TEST_F(Tokens, ExchangeDropsNoCall) {
  const std::string first = "first", second = "second";
  TestServer server({.authentication = Write(LineFor(first))});
  Traffic traffic(server, first);
  traffic.WaitForCallsOfEach();
  Write(LineFor(first) + LineFor(second));
  traffic.WaitForCallsOfEach();
  traffic.ExchangeToken(second);
  traffic.WaitForCallsOfEach();  // nobody has the first any more
  Write(LineFor(second));
  traffic.WaitForCallsOfEach();
  EXPECT_EQ(traffic.End(), 0);
  EXPECT_EQ(Told(GetModel(server.stub(), first)), kInvalid);
}

// JSON web tokens of one issuer.
class JsonWebTokens : public Tokens {
 protected:
  AuthenticatorOptions WriteKeys(const std::string& keys) const {
    return {.jwt_keys = folder_.Write("keys", keys),
            .jwt_issuer = "https://issuer.example",
            .jwt_audience = "image-variations"};
  }
  static std::string Claims(absl::Duration expires_in = absl::Hours(1),
                            const std::string& issuer = "https://issuer.example",
                            const std::string& audience = "image-variations",
                            const std::string& scope = "draw") {
    return absl::StrCat(R"({"sub":"alice","iss":")", issuer, R"(","aud":")", audience,
                        R"(","scope":")", scope, R"(","exp":)",
                        absl::ToUnixSeconds(absl::Now() + expires_in), "}");
  }

  const KeyPtr key_ = NewEcKey();
};

TEST_F(JsonWebTokens, EachCallIsServedOrRefusedByItsToken) {
  AuthenticatorOptions options = WriteKeys(PublicKeyPem(*key_));
  options.jwt_scope = "draw";
  TestServer server({.authentication = options});
  const KeyPtr stranger = NewEcKey();
  const std::string issuer = "https://issuer.example", audience = "image-variations";
  ExpectAnswers(
      server,
      {{"none", "", kMissing, kMissing},
       {"right", Es256(*key_, Claims()), kServed, kServed},
       {"expired", Es256(*key_, Claims(-absl::Minutes(1))), kInvalid, kInvalid},
       {"issuer", Es256(*key_, Claims(absl::Hours(1), "https://other")), kInvalid, kInvalid},
       {"audience", Es256(*key_, Claims(absl::Hours(1), issuer, "other")), kInvalid, kInvalid},
       {"key", Es256(*stranger, Claims()), kInvalid, kInvalid},
       {"scope", Es256(*key_, Claims(absl::Hours(1), issuer, audience, "read")), kServed,
        kNotAllowed},
       {"no JWT", "good", kInvalid, kInvalid}});
}

TEST_F(JsonWebTokens, AndAListOfTokensAreTakenSideBySide) {
  AuthenticatorOptions options = WriteKeys(PublicKeyPem(*key_));
  options.token_file = Write(LineFor("listed")).token_file;
  TestServer server({.authentication = options});
  EXPECT_EQ(Told(Generate(server.stub(), "listed")), kServed);
  EXPECT_EQ(Told(Generate(server.stub(), Es256(*key_, Claims()))), kServed);
  EXPECT_EQ(Told(Generate(server.stub(), "unlisted")), kInvalid);
  EXPECT_EQ(Told(Generate(server.stub(), Es256(*key_, Claims(-absl::Hours(1))))), kInvalid);
}

TEST_F(JsonWebTokens, ExchangeOfTheKeysDropsNoCall) {
  const KeyPtr next = NewEcKey();
  const std::string first = Es256(*key_, Claims()), second = Es256(*next, Claims());
  TestServer server({.authentication = WriteKeys(PublicKeyPem(*key_))});
  Traffic traffic(server, first);
  traffic.WaitForCallsOfEach();
  WriteKeys("no keys");  // what was there goes on
  traffic.WaitForCallsOfEach();
  WriteKeys(PublicKeyPem(*key_) + PublicKeyPem(*next));
  traffic.WaitForCallsOfEach();
  traffic.ExchangeToken(second);
  traffic.WaitForCallsOfEach();
  WriteKeys(PublicKeyPem(*next));
  traffic.WaitForCallsOfEach();
  EXPECT_EQ(traffic.End(), 0);
  EXPECT_EQ(Told(GetModel(server.stub(), first)), kInvalid);
}

TEST_F(Tokens, OneCallerBeyondItsLimitDoesNotHoldUpAnother) {
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.authentication = Write(LineFor("alice") + LineFor("bob"));
  options.caller_limits = {.max_requests = 1};
  TestServer server(std::move(options));
  held.is_armed = true;
  std::thread running([&] { EXPECT_EQ(Told(Generate(server.stub(), "alice")), kServed); });
  held.is_held.WaitForNotification();
  const grpc::Status refused = Generate(server.stub(), "alice");
  EXPECT_EQ(Told(refused), "8 CALLER_LIMIT");
  EXPECT_EQ(DetailsOf(refused).metadata["caller"], "token:owner-of-alice");
  EXPECT_NE(DetailsOf(refused).retry_delay, std::nullopt);
  std::thread other([&] { EXPECT_EQ(Told(Generate(server.stub(), "bob")), kServed); });
  held.release.Notify();
  running.join();
  other.join();
  EXPECT_EQ(Told(Generate(server.stub(), "alice")), kServed);
}

TEST(CallerMetadata, NamesCallersOfOneAddress) {
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.authentication.caller_metadata = "x-caller";
  options.caller_limits = {.max_requests = 1};
  TestServer server(std::move(options));
  const auto generate = [&server](const std::string& caller) {
    grpc::ClientContext context;
    context.AddMetadata("x-caller", caller);
    v1::GenerateVariationsResponse response;
    return server.stub().GenerateVariations(&context, Request(), &response);
  };
  held.is_armed = true;
  std::thread running([&] { EXPECT_EQ(Told(generate("ann")), kServed); });
  held.is_held.WaitForNotification();
  const grpc::Status refused = generate("ann");
  EXPECT_EQ(Told(refused), "8 CALLER_LIMIT");
  EXPECT_EQ(DetailsOf(refused).metadata["caller"], "metadata:ann");
  EXPECT_EQ(Told(generate("an n")), "3 INVALID_FIELD");
  std::thread other([&] { EXPECT_EQ(Told(generate("bob")), kServed); });
  held.release.Notify();
  running.join();
  other.join();
}

TEST(Certificates, OnlyTheNamedMayCall) {
  const CertificateAuthority authority("authority");
  const TemporaryFolder folder;
  const KeyPair own = authority.Issue("server");
  TestServer server(
      {.listener = {.address = "127.0.0.1:0",
                    .tls = {.certificate = folder.Write("cert", own.certificate),
                            .key = folder.Write("key", own.key),
                            .client_ca = folder.Write("ca", authority.certificate())}},
       .authentication = {.client_names = {"alice.example"}}});
  const auto told_to = [&](const std::string& name) {
    const KeyPair pair = authority.Issue(name);
    const auto credentials = grpc::SslCredentials({.pem_root_certs = authority.certificate(),
                                                   .pem_private_key = pair.key,
                                                   .pem_cert_chain = pair.certificate});
    const auto stub =
        v1::VariationService::NewStub(grpc::CreateChannel(server.address(), credentials));
    return Told(GetModel(*stub));
  };
  EXPECT_EQ(told_to("alice.example"), kServed);
  EXPECT_EQ(told_to("bob.example"), kNotAllowed);
}

// The client library, with everything that a server can ask for at once.
TEST_F(Tokens, ClientLibraryShowsCertificateAndToken) {
  const CertificateAuthority authority("authority");
  const KeyPair own = authority.Issue("server");
  TestServer server(
      {.listener = {.address = "127.0.0.1:0",
                    .tls = {.certificate = folder_.Write("cert", own.certificate),
                            .key = folder_.Write("key", own.key),
                            .client_ca = folder_.Write("ca", authority.certificate())}},
       .authentication = Write(LineFor("secret"))});
  const KeyPair callers = authority.Issue("caller");
  client::ConnectOptions options{
      .address = server.address(),
      .tls = client::TlsOptions{.ca = authority.certificate(),
                                .certificate = callers.certificate,
                                .key = callers.key},
      .token = "secret",
      .retry = {.max_attempts = 1},
  };
  const auto code = [&options] {
    return client::Client::Connect(options)->Vary({.image = Png(), .step_count = 2}).status();
  };
  EXPECT_EQ(code(), absl::OkStatus());
  options.token = "guess";
  EXPECT_EQ(code().code(), absl::StatusCode::kUnauthenticated);
  options.tls->certificate = options.tls->key = "";
  EXPECT_EQ(code().code(), absl::StatusCode::kUnavailable);
}

TEST(ClientLibrary, SendsNoTokenToAnotherMachineInPlaintext) {
  const auto connect = [](const std::string& address) {
    return client::Client::Connect({.address = address, .token = "secret"}).status().code();
  };
  EXPECT_EQ(connect("127.0.0.1:50051"), absl::StatusCode::kOk);
  EXPECT_EQ(connect("localhost:50051"), absl::StatusCode::kOk);
  EXPECT_EQ(connect("10.0.0.1:50051"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(connect("127.example.com:50051"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(connect("localhost.example.com:50051"), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace image_variations
