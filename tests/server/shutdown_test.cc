// The server program's end, as callers and process managers meet it.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "server/listen_socket.h"
#include "server/self_dial.h"
#include "tests/server/fake_server_process.h"
#include "tests/server/health_watch.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_certificates.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

struct Shutdown {
  grpc::Status call;
  absl::Duration unhealthy_after;       // the signal
  absl::Duration exit_after_last_call;  // its end
  int exit_code = -1;
};

// SIGTERM in the middle of a call of two seconds, with a health watch that nobody closes.
Shutdown ShutDownWhileACallRuns() {
  FakeServerProcess server({}, "20ms");
  HealthWatch watch(server);
  const auto channel = server.NewChannel();
  std::promise<void> begun;
  Shutdown result;
  absl::Time call_end;
  std::thread caller([&] {
    grpc::ClientContext context;
    v1::StreamVariationsRequest request;
    request.set_progress(true);
    *request.mutable_generation() = Request(1, 100);
    const auto stub = v1::VariationService::NewStub(channel);
    const auto stream = stub->StreamVariations(&context, request);
    v1::StreamVariationsResponse event;
    stream->Read(&event);
    begun.set_value();
    while (stream->Read(&event)) {
    }
    result.call = stream->Finish();
    call_end = absl::Now();
  });
  begun.get_future().wait();
  const absl::Time signalled = absl::Now();
  server.Signal(SIGTERM);
  result.unhealthy_after = watch.WaitForEnd() - signalled;
  caller.join();
  result.exit_code = server.WaitForExit();
  result.exit_after_last_call = absl::Now() - call_end;
  return result;
}

// The times are promises for a machine that has them to give: the best of three counts.
TEST(Shutdown, RunningCallsEndWellAndTheProcessSoonAfterThem) {
  absl::Duration unhealthy_after = absl::InfiniteDuration();
  absl::Duration exit_after = absl::InfiniteDuration();
  for (int attempt = 0; attempt < 3; ++attempt) {
    const Shutdown shutdown = ShutDownWhileACallRuns();
    ASSERT_TRUE(shutdown.call.ok()) << shutdown.call.error_message();
    ASSERT_EQ(shutdown.exit_code, 0);
    unhealthy_after = std::min(unhealthy_after, shutdown.unhealthy_after);
    exit_after = std::min(exit_after, shutdown.exit_after_last_call);
    if (unhealthy_after <= absl::Milliseconds(100) && exit_after <= absl::Seconds(1)) break;
  }
  EXPECT_LE(unhealthy_after, absl::Milliseconds(100));
  EXPECT_LE(exit_after, absl::Seconds(1));
  RecordProperty("unhealthy_after_ms",
                 static_cast<int>(absl::ToInt64Milliseconds(unhealthy_after)));
  RecordProperty("exit_after_ms", static_cast<int>(absl::ToInt64Milliseconds(exit_after)));
}

TEST(Shutdown, ASecondSignalEndsItNow) {
  FakeServerProcess server({}, "100ms");
  HealthWatch watch(server);
  auto call = std::async(std::launch::async, [channel = server.NewChannel()] {
    grpc::ClientContext context;
    v1::GenerateVariationsResponse response;
    return v1::VariationService::NewStub(channel)->GenerateVariations(&context, Request(4, 100),
                                                                      &response);
  });
  server.Signal(SIGTERM);
  watch.WaitForEnd();  // two signals at once would be one
  server.Signal(SIGTERM);
  EXPECT_EQ(server.WaitForExit(), 128 + SIGTERM);
  EXPECT_FALSE(call.get().ok());
}

// One who takes nothing before it asks for it, and asks late.
TEST(Shutdown, ASlowReaderGetsTheWholeOfItsAnswer) {
  constexpr int kSamples = 16;
  FakeServerProcess server;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);  // the least
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto stub = v1::VariationService::NewStub(
      grpc::CreateCustomChannel(server.address(), grpc::InsecureChannelCredentials(), arguments));
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(kSamples);
  request.mutable_generation()->set_request_id("84d8f7b8-9c4c-4b43-9a4e-5d2b3a1c0f6e");
  grpc::ClientContext context;
  const auto stream = stub->StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  ASSERT_TRUE(stream->Read(&event));
  server.Signal(SIGTERM);
  absl::SleepFor(absl::Seconds(1));  // so slow is it
  int variations = 0;
  while (stream->Read(&event)) variations += event.has_variation() ? 1 : 0;
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_code() << " " << status.error_message();
  EXPECT_EQ(variations, kSamples);
  EXPECT_EQ(server.WaitForExit(), 0);
}

// Callers who know nothing of health and connections of long standing, as proxies have them.
TEST(Shutdown, CallsThatComeWhenItEndsAreDoneOrUnavailable) {
  constexpr int kCallers = 8;
  for (int attempt = 0; attempt < 5; ++attempt) {
    FakeServerProcess server({"--drain-delay=100ms"});
    std::vector<std::future<grpc::Status>> callers;
    for (int i = 0; i < kCallers; ++i) {
      callers.push_back(std::async(std::launch::async, [channel = server.NewChannel()] {
        const auto stub = v1::VariationService::NewStub(channel);
        while (true) {
          grpc::ClientContext context;
          v1::GenerateVariationsResponse response;
          const grpc::Status status = stub->GenerateVariations(&context, Request(), &response);
          const bool comes_again = status.ok() || !status.error_details().empty();
          if (!comes_again) return status;
        }
      }));
    }
    server.Signal(SIGTERM);
    for (std::future<grpc::Status>& caller : callers) {
      const grpc::Status status = caller.get();
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    }
    EXPECT_EQ(server.WaitForExit(), 0);
  }
}

TEST(Shutdown, ServiceManagerHearsOfReadinessAndOfTheEnd) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "notify";
  const FileDescriptor fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  ASSERT_LT(path.size(), sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const auto receive = [&fd] {
    char text[256];
    const ssize_t size = recv(fd.get(), text, sizeof text, 0);
    return std::string(text, static_cast<size_t>(size));
  };
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  FakeServerProcess server;
  unsetenv("NOTIFY_SOCKET");
  EXPECT_THAT(receive(), HasSubstr("READY=1"));
  server.Signal(SIGTERM);
  EXPECT_THAT(receive(), HasSubstr("STOPPING=1"));
  EXPECT_EQ(server.WaitForExit(), 0);
}

std::shared_ptr<grpc::Channel> ToHealthPort(FakeServerProcess& server) {
  const std::string line = server.ReadLine();
  EXPECT_THAT(line, ::testing::StartsWith("health on "));
  return grpc::CreateChannel(line.substr(sizeof "health on " - 1),
                             grpc::InsecureChannelCredentials());
}

bool IsServing(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  HealthCheckResponse response;
  const grpc::Status status =
      Health::NewStub(channel)->Check(&context, HealthCheckRequest(), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.status() == HealthCheckResponse::SERVING;
}

// The port where requests come in wants certificates of callers; the server dials it without one.
TEST(HealthPort, OfAServerWithMutualTlsIsServing) {
  const CertificateAuthority authority("authority");
  const KeyPair own = authority.Issue("server");
  const TemporaryFolder folder;
  FakeServerProcess server({"--health-listen=127.0.0.1:0",
                            "--tls-cert=" + folder.Write("cert", own.certificate),
                            "--tls-key=" + folder.Write("key", own.key),
                            "--client-ca=" + folder.Write("ca", authority.certificate())});
  EXPECT_TRUE(IsServing(ToHealthPort(server)));
  EXPECT_EQ(DialOnce(server.address(), /*uses_tls=*/true, absl::Seconds(10)), absl::OkStatus());
}

TEST(HealthPort, TellsOfServingWithoutTlsOrToken) {
  FakeServerProcess server({"--health-listen=127.0.0.1:0"});
  const auto channel = ToHealthPort(server);
  EXPECT_TRUE(IsServing(channel));
  grpc::ClientContext other;
  v1::GetModelResponse model;
  EXPECT_EQ(v1::VariationService::NewStub(channel)->GetModel(&other, {}, &model).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace image_variations
