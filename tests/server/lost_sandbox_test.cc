// The server program with --decode-sandbox when somebody, such as the kernel that needs memory,
// kills one of its processes.
#include <signal.h>

#include <fstream>
#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "tests/server/fake_server_process.h"
#include "tests/server/health_watch.h"
#include "tests/server/test_calls.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

// That the server's main thread has started; -1: none.
pid_t FirstChild(pid_t process) {
  pid_t child = -1;
  std::ifstream(absl::StrCat("/proc/", process, "/task/", process, "/children")) >> child;
  return child;
}

TEST(LostSandbox, FinishesWhatRunsTakesNothingNewAndEndsWithAnError) {
  FakeServerProcess server({"--decode-sandbox=on"}, "20ms");
  HealthWatch watch(server);
  const auto stub = v1::VariationService::NewStub(server.NewChannel());
  grpc::ClientContext context;
  v1::StreamVariationsRequest request;
  request.set_progress(true);
  *request.mutable_generation() = Request(1, 50);
  const auto stream = stub->StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  while (!event.has_progress()) ASSERT_TRUE(stream->Read(&event));  // until its picture is decoded

  ASSERT_EQ(kill(FirstChild(server.id()), SIGKILL), 0);
  watch.WaitForEnd();
  grpc::ClientContext other_context;
  v1::GenerateVariationsResponse response;
  const grpc::Status refused = stub->GenerateVariations(&other_context, Request(), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailsOf(refused).reason, "DRAINING");
  EXPECT_TRUE(DetailsOf(refused).retry_delay);
  while (stream->Read(&event)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(server.WaitForExit(), 1);
}

TEST(LostSandbox, IsNotLostWhenTheServerIsToldToStop) {
  FakeServerProcess server({"--decode-sandbox=on"});
  server.Signal(SIGTERM);
  EXPECT_EQ(server.WaitForExit(), 0);
}

}  // namespace
}  // namespace image_variations
