// What is done for callers who leave, through real gRPC: nothing more.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "pipeline/base/status_macros.h"
#include "server/listen_socket.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

// Far more work than is done before a caller has left.
constexpr int kManySamples = 500;
constexpr int kManySteps = 900;

// One sample at a time.
TestServerOptions ForMuchWork(std::atomic<int>* decoded) {
  return {.limits = {.max_sample_count = kManySamples, .max_step_count = kManySteps},
          .engine = {.batcher = {.max_slots = 1, .max_rows = 2}},
          .admission = {.max_unet_rows_ahead = int64_t{1} << 40},
          .set_up_runner = [decoded](FakeModelRunner& runner) {
            runner.on_call = [decoded](absl::string_view verb, int rows) {
              if (verb == "DecodeLatents") *decoded += rows;
            };
          }};
}

v1::StreamVariationsRequest MuchWork(int steps) {
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(kManySamples, steps);
  request.set_progress(true);
  return request;
}

// False: the stream ended before.
bool ReadUntilProgress(grpc::ClientReaderInterface<v1::StreamVariationsResponse>& reader) {
  v1::StreamVariationsResponse event;
  while (reader.Read(&event)) {
    if (event.has_progress()) return true;
  }
  return false;
}

bool IsEngineIdle(TestServer& server) {
  const EngineStatus status = server.engine().status();
  return status.samples_running == 0 && status.samples_waiting == 0;
}

TEST(LeavingCaller, LeavesFinishedPicturesThatAreNotEncoded) {
  std::atomic<int> decoded = 0;
  TestServer server(ForMuchWork(&decoded));
  decoded = 0;  // the warm-up's
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, MuchWork(kManySteps / 2));
  ASSERT_TRUE(Eventually([&] { return server.engine().status().samples_running > 0; }));
  absl::Notification release_codecs;
  for (int i = 0; i < TestServer::kCodecThreads; ++i) {
    server.codecs().Run([&] { release_codecs.WaitForNotification(); });
  }
  EXPECT_TRUE(Eventually([&] { return decoded > 2; }));
  context.TryCancel();
  EXPECT_TRUE(Eventually([&] { return IsEngineIdle(server); }));
  EXPECT_LT(decoded, kManySamples);
  release_codecs.Notify();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle(server);
  const std::string metrics = MetricsText(server);
  EXPECT_NE(metrics.find("stage_duration_seconds_count{stage=\"encode\"} 0"), std::string::npos);
}

TEST(LeavingCaller, FreesTheSlotsOfAStreamAtTheNextStep) {
  std::atomic<int> decoded = 0;
  TestServer server(ForMuchWork(&decoded));
  decoded = 0;
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, MuchWork(kManySteps));
  ASSERT_TRUE(ReadUntilProgress(*reader));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle(server);
  EXPECT_LT(decoded, kManySamples);
}

TEST(LeavingCaller, OfAUnaryCallIsNotWorkedFor) {
  std::atomic<int> decoded = 0;
  TestServerOptions options = ForMuchWork(&decoded);
  options.limits.max_unary_reply_bytes = int64_t{1} << 30;
  TestServer server(options);
  decoded = 0;
  grpc::ClientContext context;
  grpc::Status status;
  std::thread caller([&] {
    v1::GenerateVariationsResponse response;
    status =
        server.stub().GenerateVariations(&context, Request(kManySamples, kManySteps), &response);
  });
  EXPECT_TRUE(Eventually([&] { return server.engine().status().samples_running > 0; }));
  context.TryCancel();
  caller.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle(server);
  EXPECT_LT(decoded, kManySamples);
}

// Passes on what two sockets say, until it is cut, without a word to either side.
class Wire {
 public:
  explicit Wire(const std::string& address)
      : to_server_(ConnectTo(address)), thread_([this] { Pass(); }) {}
  ~Wire() { thread_.join(); }

  const std::string& address() const { return door_.address; }
  void Cut() { is_cut_ = true; }

 private:
  void Pass() {
    pollfd knock{door_.fd.get(), POLLIN, 0};
    poll(&knock, 1, /*timeout=*/-1);
    FileDescriptor to_client(accept(door_.fd.get(), nullptr, nullptr));
    std::array<pollfd, 2> ends = {pollfd{to_client.get(), POLLIN, 0},
                                  pollfd{to_server_.get(), POLLIN, 0}};
    std::array<char, 1 << 14> bytes;
    while (!is_cut_) {
      poll(ends.data(), ends.size(), /*timeout=*/10);
      for (size_t i = 0; i < ends.size(); ++i) {
        if (ends[i].revents == 0) continue;
        const ssize_t count = read(ends[i].fd, bytes.data(), bytes.size());
        if (count <= 0) is_cut_ = true;
        if (count > 0)
          IV_CHECK(write(ends[1 - i].fd, bytes.data(), static_cast<size_t>(count)) > 0);
      }
    }
    const linger at_once{1, 0};  // a reset, as of a machine that is gone
    setsockopt(to_server_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    for (FileDescriptor* end : {&to_server_, &to_client, &door_.fd}) end->Close();
  }

  ListenSocket door_ = ListenSocket::Open("127.0.0.1:0").value();
  FileDescriptor to_server_;
  std::atomic<bool> is_cut_ = false;
  std::thread thread_;
};

TEST(LeavingCaller, WhoseConnectionBreaksLeavesNoRows) {
  std::atomic<int> decoded = 0;
  TestServer server(ForMuchWork(&decoded));
  decoded = 0;
  Wire wire(server.address());
  const auto stub = v1::VariationService::NewStub(
      grpc::CreateChannel(wire.address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto reader = stub->StreamVariations(&context, MuchWork(kManySteps));
  ASSERT_TRUE(ReadUntilProgress(*reader));
  wire.Cut();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  ExpectIdle(server);
  EXPECT_LT(decoded, kManySamples);
}

}  // namespace
}  // namespace image_variations
