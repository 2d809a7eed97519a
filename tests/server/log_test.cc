// What the server program writes to its log: who, what and when, and nothing that is a caller's
// own.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "pipeline/base/sha256.h"
#include "tests/server/fake_server_process.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_certificates.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kToken[] = "a-token-that-must-stay-secret-0123456789";
constexpr char kWrongToken[] = "a-wrong-token-that-must-stay-secret-too";
constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr int64_t kSeed = 8'137'254'961;
constexpr char kRequestId[] = "123e4567-e89b-12d3-a456-426614174000";

// Sends this process's stderr, which its children have too, into a file.
class StderrFile {
 public:
  explicit StderrFile(const std::string& path) : own_(dup(STDERR_FILENO)) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(file, STDERR_FILENO);
    close(file);
  }
  ~StderrFile() {
    dup2(own_, STDERR_FILENO);
    close(own_);
  }

 private:
  const int own_;
};

// Each is JSON with the time and the severity.
std::vector<nlohmann::json> LinesOf(const std::string& log) {
  std::vector<nlohmann::json> lines;
  for (const absl::string_view line : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    EXPECT_TRUE(json.is_object() && json.contains("time") && json.contains("severity")) << line;
    if (json.is_object()) lines.push_back(std::move(json));
  }
  return lines;
}

class LogTest : public ::testing::Test {
 protected:
  // One request that is served, then some that are refused for one reason each.
  void SetUp() override {
    const std::string tokens =
        folder_.Write("tokens", absl::StrCat("alice ", Sha256OfText(kToken), "\n"));
    const std::string path = (folder_.path() / "log").string();
    {
      const StderrFile stderr_file(path);
      FakeServerProcess server({"--log-level=debug", "--token-file", tokens});
      const auto stub = v1::VariationService::NewStub(server.NewChannel());
      v1::GenerateVariationsRequest request = Request(/*samples=*/2);
      request.set_seed(kSeed);
      request.set_request_id(kRequestId);
      status_ = Call(*stub, request, kToken);
      Call(*stub, request, kWrongToken);
      request.set_seed(-kSeed);
      request.clear_request_id();
      Call(*stub, request, kToken);
      request.set_seed(kSeed);
      request.set_image("pixels-that-must-stay-secret");
      Call(*stub, request, kToken);
      server.Signal(SIGTERM);
      server.WaitForExit();
    }
    log_ = ReadToEnd(open(path.c_str(), O_RDONLY));
  }

  grpc::Status Call(v1::VariationService::Stub& stub, const v1::GenerateVariationsRequest& request,
                    const std::string& token) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token);
    context.AddMetadata("traceparent", absl::StrCat("00-", kTraceId, "-00f067aa0ba902b7-01"));
    v1::GenerateVariationsResponse response;
    const grpc::Status status = stub.GenerateVariations(&context, request, &response);
    const auto& metadata = context.GetServerInitialMetadata();
    const auto found = metadata.find("traceparent");
    if (found != metadata.end()) {
      traceparents_.emplace_back(found->second.data(), found->second.size());
    }
    if (response.variations_size() > 0) result_ = response.variations(0).image();
    return status;
  }

  TemporaryFolder folder_;
  grpc::Status status_;
  std::vector<std::string> traceparents_;
  std::string result_, log_;
};

TEST_F(LogTest, EveryLineIsJsonAndARequestsEndSaysWhoseItWas) {
  ASSERT_TRUE(status_.ok()) << status_.error_message();
  int ended = 0;
  for (const nlohmann::json& json : LinesOf(log_)) {
    if (json["message"] != "request ended") continue;
    ++ended;
    EXPECT_EQ(json["request_id"], kRequestId);
    EXPECT_EQ(json["trace_id"], kTraceId);
    EXPECT_EQ(json["caller"], "token:alice");
    EXPECT_EQ(json["code"], "OK");
  }
  EXPECT_EQ(ended, 1);
}

TEST_F(LogTest, EveryReplyNamesTheCallersTrace) {
  ASSERT_EQ(traceparents_.size(), 4);
  for (const std::string& traceparent : traceparents_) {
    EXPECT_THAT(traceparent, HasSubstr(absl::StrCat("00-", kTraceId, "-")));
  }
}

TEST_F(LogTest, RefusalsAreThereWithTheirReasons) {
  EXPECT_THAT(log_, AllOf(HasSubstr("TOKEN_INVALID"), HasSubstr("INVALID_FIELD"),
                          HasSubstr("IMAGE_UNDECODABLE")));
}

TEST_F(LogTest, NoPixelsSeedsOrTokensAreInIt) {
  ASSERT_FALSE(result_.empty());
  for (const std::string& secret :
       {std::string(kToken), std::string(kWrongToken), Sha256OfText(kToken),
        Sha256OfText(kWrongToken), absl::StrCat(kSeed), absl::StrCat(kSeed + 1),
        absl::StrCat(kSeed & 0xFFFFFFFF), absl::StrCat(absl::Hex(kSeed)),
        std::string("must-stay-secret"), std::string("PNG"), std::string("IHDR"),
        absl::Base64Escape(result_).substr(0, 16), absl::CHexEscape(result_).substr(0, 16)}) {
    EXPECT_THAT(log_, Not(HasSubstr(secret)));
  }
}

// The log of a server program, from its start to its end.
std::string LogOf(
    const std::vector<std::string>& flags,
    absl::FunctionRef<void(const FakeServerProcess&)> meet = [](const auto&) {}) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "log").string();
  {
    const StderrFile stderr_file(path);
    FakeServerProcess server(flags);
    meet(server);
    server.Signal(SIGTERM);
    server.WaitForExit();
  }
  return ReadToEnd(open(path.c_str(), O_RDONLY));
}

// gRPC has something to say of a caller who speaks plaintext where TLS is wanted.
TEST(GrpcsOwnLog, IsJsonToo) {
  const CertificateAuthority authority("authority");
  const KeyPair own = authority.Issue("server");
  const TemporaryFolder folder;
  const std::string log = LogOf({"--tls-cert=" + folder.Write("cert", own.certificate),
                                 "--tls-key=" + folder.Write("key", own.key)},
                                [](const FakeServerProcess& server) {
                                  grpc::ClientContext context;
                                  v1::GenerateVariationsResponse response;
                                  EXPECT_EQ(v1::VariationService::NewStub(server.NewChannel())
                                                ->GenerateVariations(&context, Request(), &response)
                                                .error_code(),
                                            grpc::StatusCode::UNAVAILABLE);
                                });
  int lines_of_grpc = 0;
  for (const nlohmann::json& json : LinesOf(log)) {
    lines_of_grpc += json["message"] == "gRPC" ? 1 : 0;
  }
  EXPECT_GT(lines_of_grpc, 0);
}

// A request whose text is no UTF-8, as its own client would not send it.
void CallWithMisshapenText(const std::shared_ptr<grpc::Channel>& channel) {
  v1::GenerateVariationsRequest request = Request();
  request.set_sampler("sampler");
  std::string bytes = request.SerializeAsString();
  bytes.replace(bytes.find("sampler"), 7, "\xff\xff\xff\xff\xff\xff\xff");
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer message(&slice, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  std::promise<grpc::Status> status;
  grpc::GenericStub(channel).UnaryCall(
      &context, "/imagevariations.v1.VariationService/GenerateVariations", {}, &message, &response,
      [&status](grpc::Status ended) { status.set_value(std::move(ended)); });
  EXPECT_FALSE(status.get_future().get().ok());
}

TEST(ProtobufsOwnLog, IsJsonTooAndOfNoConcernUnlessAskedFor) {
  const auto meet = [](const FakeServerProcess& server) {
    CallWithMisshapenText(server.NewChannel());
  };
  const std::string log = LogOf({"--log-level=debug"}, meet);
  EXPECT_FALSE(LinesOf(log).empty());
  EXPECT_THAT(log, HasSubstr("\"message\":\"protobuf\""));
  EXPECT_THAT(LogOf({}, meet), Not(HasSubstr("protobuf")));
}

TEST(Plaintext, WhereOthersReachItIsWarnedOfAtEveryStart) {
  EXPECT_THAT(LogOf({"--plaintext=anywhere", "--listen=0.0.0.0:0"}),
              HasSubstr("\"severity\":\"WARNING\",\"message\":\"PLAINTEXT: "));
  EXPECT_THAT(LogOf({"--plaintext=anywhere"}), Not(HasSubstr("PLAINTEXT")));
}

}  // namespace
}  // namespace image_variations
