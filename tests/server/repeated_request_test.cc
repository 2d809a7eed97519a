// Requests that come twice with one request_id, through real gRPC.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "tests/server/error_details.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

constexpr char kId[] = "123e4567-e89b-12d3-a456-426614174000";

v1::GenerateVariationsRequest RequestWithId(int samples = 2) {
  v1::GenerateVariationsRequest request = Request(samples);
  request.set_request_id(kId);
  return request;
}

bool HasRepeated(TestServer& server, int count) {
  const std::string metrics = MetricsText(server);
  return metrics.find("image_variations_requests_repeated_total " + std::to_string(count) + "\n") !=
         std::string::npos;
}

TEST(RepeatedRequest, IsAnsweredAgainWithoutWork) {
  TestServer server;
  v1::GenerateVariationsRequest request = RequestWithId();
  request.clear_seed();
  const Reply first = Generate(server, request);
  const Reply second = Generate(server, request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_EQ(second.response.SerializeAsString(), first.response.SerializeAsString());
  EXPECT_TRUE(HasRepeated(server, 1));
}

TEST(RepeatedRequest, SharesTheWorkThatIsUnderWay) {
  HeldEngine held;
  TestServer server(held.Options());
  held.is_armed = true;
  Reply first, second;
  std::thread caller([&] { first = Generate(server, RequestWithId()); });
  held.is_held.WaitForNotification();
  std::thread repeater([&] { second = Generate(server, RequestWithId()); });
  EXPECT_TRUE(Eventually([&] { return HasRepeated(server, 1); }));
  EXPECT_EQ(server.gate().requests(), 1);
  held.release.Notify();
  caller.join();
  repeater.join();
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.response.SerializeAsString(), first.response.SerializeAsString());
}

TEST(RepeatedRequest, IsAnsweredThoughTheFirstCallerLeaves) {
  HeldEngine held;
  TestServer server(held.Options());
  held.is_armed = true;
  grpc::ClientContext leaving;
  v1::GenerateVariationsResponse unused;
  std::thread caller([&] { server.stub().GenerateVariations(&leaving, RequestWithId(), &unused); });
  held.is_held.WaitForNotification();
  Reply second;
  std::thread repeater([&] { second = Generate(server, RequestWithId()); });
  EXPECT_TRUE(Eventually([&] { return HasRepeated(server, 1); }));
  leaving.TryCancel();
  caller.join();
  held.release.Notify();
  repeater.join();
  EXPECT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.response.variations_size(), 2);
  ExpectIdle(server);
}

TEST(RepeatedRequest, WithOtherContentIsRefused) {
  TestServer server;
  Generate(server, RequestWithId());
  const Reply other = Generate(server, RequestWithId(/*samples=*/3));
  EXPECT_EQ(other.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(other.details().reason, "REQUEST_ID_REUSED");
}

TEST(RepeatedRequest, StreamsTheAnswerOfAUnaryCall) {
  TestServer server;
  const Reply first = Generate(server, RequestWithId());
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = RequestWithId();
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  int variations = 0;
  while (reader->Read(&event)) {
    if (!event.has_variation()) continue;
    ++variations;
    EXPECT_EQ(event.variation().image(),
              first.response.variations(event.variation().index()).image());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(variations, 2);
}

// Of a caller who takes a few bytes of an answer and then reads no more.
class UnreadStream {
 public:
  UnreadStream(TestServer& server, const v1::GenerateVariationsRequest& generation) {
    v1::StreamVariationsRequest request;
    *request.mutable_generation() = generation;
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::VariationService::NewStub(
        grpc::CreateCustomChannel(server.address(), grpc::InsecureChannelCredentials(), arguments));
    reader_ = stub_->StreamVariations(&context_, request);
    reader_->WaitForInitialMetadata();  // with the first event, or with the refusal
  }
  ~UnreadStream() {
    context_.TryCancel();
    if (!is_finished_) Finish();
  }

  grpc::Status Finish() {
    is_finished_ = true;
    v1::StreamVariationsResponse event;
    while (reader_->Read(&event)) {
    }
    return reader_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::VariationService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::StreamVariationsResponse>> reader_;
  bool is_finished_ = false;
};

TEST(RepeatedRequest, UnreadAnswersCountAgainstTheMemoryOfAll) {
  constexpr int64_t kMaxBytes = 500'000;
  TestServer server({.admission = {.max_bytes = kMaxBytes}});
  ASSERT_TRUE(Generate(server, RequestWithId()).status.ok());
  EXPECT_TRUE(Eventually([&] { return server.gate().bytes() == 0; }));
  std::vector<std::unique_ptr<UnreadStream>> streams;
  const int64_t bytes_each = 3 * WorstCaseEncodedBytes(ImageFormat::kPng, 64, 64, 95);
  for (int64_t bytes = bytes_each; bytes <= kMaxBytes; bytes += bytes_each) {
    streams.push_back(std::make_unique<UnreadStream>(server, RequestWithId()));
    EXPECT_EQ(server.gate().bytes(), bytes);
  }
  const grpc::Status refused = UnreadStream(server, RequestWithId()).Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(refused).reason, "QUEUE_FULL");
  EXPECT_GT(DetailsOf(refused).retry_delay, absl::ZeroDuration());
  EXPECT_EQ(server.gate().requests(), 0);  // nobody who drains waits for them
  streams.clear();
  EXPECT_TRUE(Eventually([&] { return server.gate().bytes() == 0; }));
}

TEST(RepeatedRequest, CountsAsItsCallersUntilItsAnswerIsRead) {
  TestServer server({.caller_limits = {.max_requests = 1, .max_unet_rows = 100}});
  for (int i = 0; i < 5; ++i) {
    const Reply reply = Generate(server, RequestWithId());
    ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  }
  const UnreadStream unread(server, RequestWithId());
  EXPECT_EQ(Generate(server, RequestWithId()).details().reason, "CALLER_LIMIT");
}

}  // namespace
}  // namespace image_variations
