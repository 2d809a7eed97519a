// What a server does not take on, through real gRPC: told at once, with a reason, and nothing of it
// is left.
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Refusals, BadInputGetsStatusReasonAndFieldAndLeavesNothing) {
  TestServer server;
  const std::string png = Png();
  const std::string huge =
      png.substr(0, 8) +
      MakePngChunk("IHDR", absl::string_view("\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0", 13)) +
      MakePngChunk("IEND", "");
  const struct {
    std::string what;
    std::string image;
    absl::string_view reason;
  } pictures[] = {
      {"empty", "", "INVALID_FIELD"},
      {"not an image", "hello", "IMAGE_UNDECODABLE"},
      {"truncated png", png.substr(0, png.size() - 20), "IMAGE_UNDECODABLE"},
      {"50,000 x 50,000", huge, "IMAGE_TOO_LARGE"},
      {"truncated header", png.substr(0, 20), "IMAGE_UNDECODABLE"},
  };
  for (const auto& [what, image, reason] : pictures) {
    v1::GenerateVariationsRequest request = Request();
    request.set_image(image);
    const Reply reply = Generate(server, request);
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << what;
    EXPECT_EQ(reply.details().reason, reason) << what;
    EXPECT_THAT(reply.details().fields, ElementsAre("image")) << what;
    const StreamReply stream = Listen(server, request);
    EXPECT_THAT(stream.details().fields, ElementsAre("generation.image")) << what;
  }
  EXPECT_THAT(Generate(server, Request(/*samples=*/-1)).details().fields,
              ElementsAre("sample_count"));
  ExpectIdle(server);
}

TEST(Refusals, ReplyThatCouldBeTooLargeIsRefusedBeforeAnyWork) {
  TestServer server({.limits = {.max_unary_reply_bytes = 20'000}});
  EXPECT_TRUE(Generate(server, Request(/*samples=*/1)).status.ok());
  const Reply refused = Generate(server, Request(/*samples=*/2));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.details().reason, "REPLY_TOO_LARGE");
  EXPECT_THAT(refused.status.error_message(), HasSubstr("call StreamVariations"));
  EXPECT_TRUE(Listen(server, Request(/*samples=*/2)).status.ok());
}

// A server for one request at a time, which is in the engine.
class FullServer {
 public:
  FullServer() : server_(ForOneRequest(held_)) {
    held_.is_armed = true;
    first_ = std::thread([this] { EXPECT_TRUE(Generate(server_, Request()).status.ok()); });
    held_.is_held.WaitForNotification();
  }

  TestServer& server() { return server_; }
  void LetTheOneEnd() {
    held_.release.Notify();
    first_.join();
  }

 private:
  static TestServerOptions ForOneRequest(HeldEngine& held) {
    TestServerOptions options = held.Options();
    options.admission.max_requests = 1;
    return options;
  }

  HeldEngine held_;
  TestServer server_;
  std::thread first_;
};

TEST(Refusals, FullLineIsRefusedWithRetryInfo) {
  FullServer full;
  const Reply refused = Generate(full.server(), Request());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "QUEUE_FULL");
  EXPECT_NE(refused.details().retry_delay, std::nullopt);
  full.LetTheOneEnd();
}

TEST(Refusals, ValidateOnlyIsRefusedAsTheRequestItselfWouldBe) {
  FullServer full;
  v1::GenerateVariationsRequest question = Request();
  question.set_validate_only(true);
  question.set_request_id("123e4567-e89b-12d3-a456-426614174000");
  const Reply refused = Generate(full.server(), question);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "QUEUE_FULL");
  EXPECT_NE(refused.details().retry_delay, std::nullopt);
  EXPECT_EQ(full.server().gate().requests(), 1);
  full.LetTheOneEnd();
  EXPECT_TRUE(Generate(full.server(), question).status.ok());
  ExpectIdle(full.server());
}

TEST(Refusals, StartingServerSaysSo) {
  TestServer server({}, /*serves=*/false);
  EXPECT_EQ(Listen(server, Request()).details().reason, "STARTING");
}

}  // namespace
}  // namespace image_variations
