// What one connection may ask of gRPC, and what the server makes of more: on the whole server, for
// callers that keep to HTTP/2 and for some that do not.
#include <poll.h>
#include <sys/socket.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/byte_order.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::HasSubstr;

TEST(Limits, AMessageThatIsTooLargeIsRefusedAndTheNextIsNot) {
  TestServer server({.listener = {.address = "127.0.0.1:0", .max_message_bytes = 64 << 10}});
  v1::GenerateVariationsRequest large = Request();
  large.set_image(std::string(65 << 10, 'x'));
  EXPECT_EQ(Generate(server, large).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Generate(server, Request()).status.ok());
}

TEST(Limits, MetadataThatIsTooLargeIsRefusedAndTheNextIsNot) {
  TestServer server({.listener = {.address = "127.0.0.1:0", .max_metadata_bytes = 4 << 10}});
  grpc::ClientContext context;
  context.AddMetadata("x-large", std::string(5 << 10, 'x'));
  v1::GenerateVariationsResponse response;
  EXPECT_EQ(server.stub().GenerateVariations(&context, Request(), &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  // gRPC may end the connection after it, under the next call: whoever calls again is served.
  const grpc::Status next = Generate(server, Request()).status;
  EXPECT_TRUE(next.ok() || (next.error_code() == grpc::StatusCode::UNAVAILABLE &&
                            Generate(server, Request()).status.ok()))
      << next.error_message();
}

int CallsStarted(TestServer& server) {
  const std::string metrics = MetricsText(server);
  const std::string name =
      "grpc_server_started_total{grpc_method=\"GenerateVariations\","
      "grpc_service=\"imagevariations.v1.VariationService\",grpc_type=\"unary\"} ";
  const size_t place = metrics.find(name);
  int count = 0;
  if (place != std::string::npos) {
    const size_t begin = place + name.size();
    IV_CHECK(absl::SimpleAtoi(metrics.substr(begin, metrics.find('\n', begin) - begin), &count));
  }
  return count;
}

TEST(Limits, TheThirdOfTwoCallsWaitsInTheClient) {
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.listener.max_concurrent_streams = 2;
  TestServer server(std::move(options));
  ASSERT_TRUE(Generate(server, Request()).status.ok());  // the limit is known
  const int before = CallsStarted(server);
  held.is_armed = true;
  const auto call = [&server] { return Generate(server, Request()).status; };
  std::future<grpc::Status> first = std::async(std::launch::async, call);
  std::future<grpc::Status> second = std::async(std::launch::async, call);
  ASSERT_TRUE(Eventually([&] { return CallsStarted(server) == before + 2; }));
  const Reply third = Generate(server, Request(), absl::Now() + absl::Milliseconds(300));
  EXPECT_EQ(third.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(CallsStarted(server), before + 2);
  std::future<grpc::Status> fourth = std::async(std::launch::async, call);
  held.release.Notify();
  for (auto* waiting : {&first, &second, &fourth}) EXPECT_TRUE(waiting->get().ok());
}

enum FrameType : uint8_t { kHeaders = 1, kSettings = 4, kPing = 6, kGoAway = 7 };
constexpr uint8_t kEndStreamAndHeaders = 0x5;

struct Frame {
  uint8_t type = 0;
  std::string payload;
};

// A caller that writes HTTP/2 by hand.
class RawCaller {
 public:
  explicit RawCaller(const std::string& address) : fd_(ConnectTo(address)) {
    SendBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    Send(kSettings, 0, 0, "");
  }

  void Send(FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
    std::string frame;
    AppendBigEndian(frame, static_cast<uint32_t>(payload.size()), 3);
    frame += {static_cast<char>(type), static_cast<char>(flags)};
    AppendBigEndian(frame, stream, 4);
    SendBytes(frame + payload);
  }

  // nullopt: the server has hung up, or says nothing for ten seconds.
  std::optional<Frame> Read() {
    const std::string head = ReadBytes(9);
    if (head.size() < 9) return std::nullopt;
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(head[at]); };
    const size_t size = size_t{byte(0)} << 16 | size_t{byte(1)} << 8 | byte(2);
    return Frame{byte(3), ReadBytes(size)};
  }

  // nullopt: it hung up without one.
  std::optional<Frame> ReadUntilGoAway() {
    std::optional<Frame> frame = Read();
    while (frame && frame->type != kGoAway) frame = Read();
    return frame;
  }

 private:
  void SendBytes(const std::string& bytes) {
    send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);  // it may have hung up
  }
  std::string ReadBytes(size_t size) {
    std::string bytes(size, '\0');
    size_t have = 0;
    while (have < size) {
      pollfd event{fd_.get(), POLLIN, 0};
      if (poll(&event, 1, 10'000) != 1) break;
      const ssize_t count = recv(fd_.get(), bytes.data() + have, size - have, 0);
      if (count <= 0) break;
      have += static_cast<size_t>(count);
    }
    bytes.resize(have);
    return bytes;
  }

  FileDescriptor fd_;
};

TEST(Limits, WhoAsksAgainAndAgainWhetherTheServerIsThereIsSentAway) {
  TestServer server;
  RawCaller caller(server.address());
  for (int i = 0; i < 10; ++i) caller.Send(kPing, 0, 0, "8 bytes.");
  const std::optional<Frame> goodbye = caller.ReadUntilGoAway();
  ASSERT_TRUE(goodbye);
  EXPECT_THAT(goodbye->payload, HasSubstr("too_many_pings"));
  EXPECT_TRUE(Generate(server, Request()).status.ok());
}

TEST(Limits, AConnectionWithoutACallIsClosed) {
  TestServer server(
      {.listener = {.address = "127.0.0.1:0", .max_connection_idle = absl::Seconds(1)}});
  RawCaller caller(server.address());
  EXPECT_TRUE(caller.ReadUntilGoAway());
  EXPECT_TRUE(Generate(server, Request()).status.ok());
}

using Header = std::pair<std::string, std::string>;

// HPACK, RFC 7541: literal fields without indexing, without Huffman's code.
std::string Encode(const std::vector<Header>& headers) {
  std::string bytes;
  const auto append = [&bytes](const std::string& text) {
    size_t rest = text.size();
    if (rest < 127) {
      bytes += static_cast<char>(rest);
    } else {
      bytes += '\x7F';
      for (rest -= 127; rest >= 128; rest >>= 7) bytes += static_cast<char>(rest % 128 + 128);
      bytes += static_cast<char>(rest);
    }
    bytes += text;
  };
  for (const auto& [name, value] : headers) {
    bytes += '\0';
    append(name);
    append(value);
  }
  return bytes;
}

// What ended other versions of gRPC (CVE-2023-1428, CVE-2023-32732), and what is nearest to it.
TEST(Limits, HeadersThatAreWrongEndNothingButTheirCallOrConnection) {
  TestServer server({.listener = {.address = "127.0.0.1:0", .max_metadata_bytes = 4 << 10}});
  const Header method = {":method", "POST"};
  const Header scheme = {":scheme", "http"};
  const Header path = {":path", "/imagevariations.v1.VariationService/GetModel"};
  const Header te = {"te", "trailers"};
  const Header type = {"content-type", "application/grpc"};
  const Header padding = {"x-padding", std::string(6 << 10, 'p')};
  const std::vector<Header> probes[] = {
      {method, {":scheme", "nonsense"}, path, te, type, padding},
      {method, scheme, path, {"te", "nonsense"}, type, padding},
      {method, {":scheme", std::string(6 << 10, 's')}, path, {"te", ""}, type},
      {{":method", "NONSENSE"}, scheme, path, te, {"content-type", "nonsense"}, padding},
      {method, scheme, path, te, type, {"x-data-bin", "!not base64!"}},
      {method, method, scheme, path, te, type, {"grpc-timeout", "99999999999999999999H"}},
      {scheme, te, type, {"grpc-encoding", "nonsense"}, {":status", "200"}},
      {},
  };
  for (const std::vector<Header>& headers : probes) {
    RawCaller caller(server.address());
    caller.Send(kHeaders, kEndStreamAndHeaders, 1, Encode(headers));
    caller.Send(kPing, 0, 0, "answer!!");  // when it is answered, or hung up on, all was read
    for (auto frame = caller.Read(); frame && frame->type != kPing;) frame = caller.Read();
    EXPECT_TRUE(Generate(server, Request()).status.ok());
  }
}

}  // namespace
}  // namespace image_variations
