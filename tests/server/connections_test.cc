// Many connections, few file descriptors: the server program as a flood of idle peers meets it.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "tests/server/fake_server_process.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_calls.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

constexpr int kMaxFiles = 64;
constexpr int kIdlePeers = 90;

std::vector<FileDescriptor> ConnectIdlePeers(const std::string& address) {
  std::vector<FileDescriptor> peers;
  for (int i = 0; i < kIdlePeers; ++i) peers.push_back(ConnectTo(address));
  return peers;
}

// Reads past what gRPC says first.
bool IsClosedByServer(const FileDescriptor& peer) {
  char bytes[256];
  ssize_t count = 0;
  while ((count = recv(peer.get(), bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
  }
  return count == 0 || errno != EAGAIN;
}

size_t CountClosed(const std::vector<FileDescriptor>& peers) {
  return static_cast<size_t>(std::count_if(peers.begin(), peers.end(), IsClosedByServer));
}

grpc::Status Generate(const std::shared_ptr<grpc::Channel>& channel, int steps,
                      absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::GenerateVariationsResponse response;
  return v1::VariationService::NewStub(channel)->GenerateVariations(&context, Request(1, steps),
                                                                    &response);
}

// A call whose connection is there and whose first of many steps has been taken.
std::future<grpc::Status> BeginLongCall(const FakeServerProcess& server) {
  auto begun = std::make_shared<std::promise<void>>();
  auto call = std::async(std::launch::async, [channel = server.NewChannel(), begun] {
    grpc::ClientContext context;
    v1::StreamVariationsRequest request;
    *request.mutable_generation() = Request(1, 100);
    const auto stub = v1::VariationService::NewStub(channel);
    const auto stream = stub->StreamVariations(&context, request);
    v1::StreamVariationsResponse event;
    stream->Read(&event);
    begun->set_value();
    while (stream->Read(&event)) {
    }
    return stream->Finish();
  });
  begun->get_future().wait();
  return call;
}

// gRPC's own listener never accepts again after this.
TEST(Connections, ServerThatRanOutOfDescriptorsServesAgainWhenPeersLeave) {
  FakeServerProcess server({"--handshake-timeout=1h"}, "20ms", kMaxFiles);
  std::vector<std::future<grpc::Status>> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(BeginLongCall(server));
  std::vector<FileDescriptor> peers = ConnectIdlePeers(server.address());
  EXPECT_TRUE(Eventually([&] { return CountClosed(peers) >= kIdlePeers - kMaxFiles; }));
  EXPECT_LT(CountClosed(peers), kIdlePeers);

  peers.clear();
  const absl::Time left = absl::Now();
  // Until the server has seen them leave, it is full: UNAVAILABLE.
  EXPECT_TRUE(Eventually([&] { return Generate(server.NewChannel(), 1, absl::Seconds(5)).ok(); }));
  const absl::Duration served_after = absl::Now() - left;
  EXPECT_LT(served_after, absl::Seconds(5));
  int failures = 0;
  for (auto& call : calls) {
    const grpc::Status status = call.get();
    EXPECT_TRUE(status.ok()) << status.error_message();
    failures += status.ok() ? 0 : 1;
  }
  RecordProperty("served_after_ms", static_cast<int>(absl::ToInt64Milliseconds(served_after)));
  RecordProperty("running_calls", static_cast<int>(calls.size()));
  RecordProperty("running_calls_that_failed", failures);
}

TEST(Connections, PeersThatSayNothingAreHungUpOnAndMakeRoom) {
  FakeServerProcess server({"--handshake-timeout=1s"}, "0s", kMaxFiles);
  const std::vector<FileDescriptor> peers = ConnectIdlePeers(server.address());
  EXPECT_TRUE(Eventually([&] { return CountClosed(peers) == kIdlePeers; }));
  EXPECT_TRUE(Generate(server.NewChannel(), 1, absl::Seconds(5)).ok());
}

TEST(Connections, OneMoreThanAllowedIsClosedAtOnce) {
  FakeServerProcess server({"--max-connections=2"});
  const FileDescriptor first = ConnectTo(server.address());
  FileDescriptor second = ConnectTo(server.address());
  const FileDescriptor third = ConnectTo(server.address());
  EXPECT_TRUE(Eventually([&] { return IsClosedByServer(third); }));
  EXPECT_FALSE(IsClosedByServer(first));
  second.Close();
  EXPECT_TRUE(Eventually([&] { return Generate(server.NewChannel(), 1, absl::Seconds(5)).ok(); }));
}

}  // namespace
}  // namespace image_variations
