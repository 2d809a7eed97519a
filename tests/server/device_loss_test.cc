// The server program when its device is gone or hangs: callers hear of it, probes hear of it, and
// the process ends, so that something else can start it anew.
#include <signal.h>

#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/engine/device_error.h"
#include "tests/server/fake_server_process.h"
#include "tests/server/health_watch.h"
#include "tests/server/test_calls.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

struct Loss {
  grpc::Status call;
  absl::Duration unhealthy_after_begin;  // of the call
  absl::Duration unhealthy_after;        // the first that anybody hears
  absl::Duration exit_after;
  int exit_code = 0;
};

Loss LoseDevice(const std::string& fault) {
  FakeServerProcess server({"--inject-faults=" + fault, "--hang-timeout=200ms"}, "2ms");
  HealthWatch watch(server);
  Loss loss;
  const auto channel = server.NewChannel();
  channel->WaitForConnected(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
  const absl::Time begin = absl::Now();
  auto call = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    v1::GenerateVariationsResponse response;
    loss.call = v1::VariationService::NewStub(channel)->GenerateVariations(&context, Request(2, 10),
                                                                           &response);
    return absl::Now();
  });
  const absl::Time unhealthy = watch.WaitForEnd();
  loss.exit_code = server.WaitForExit();
  const absl::Time exited = absl::Now();
  const absl::Time first = std::min(unhealthy, call.get());
  loss.unhealthy_after_begin = unhealthy - begin;
  loss.unhealthy_after = unhealthy - first;
  loss.exit_after = exited - first;
  return loss;
}

class DeviceLoss : public ::testing::TestWithParam<std::string> {};

// From the call's begin to the end of the step with the fault, the third of 2 ms each.
constexpr absl::Duration kUntilTheFault = absl::Milliseconds(50);
// --hang-timeout, and the watchdog's interval.
constexpr absl::Duration kHangIsNoticed = absl::Milliseconds(1200);

// The times are promises for a machine that has them to give: the best of three counts.
TEST_P(DeviceLoss, IsToldToCallersAndProbesAndEndsTheProcess) {
  const absl::Duration noticed_after =
      kUntilTheFault + (GetParam() == "hang" ? kHangIsNoticed : absl::ZeroDuration());
  absl::Duration unhealthy_after = absl::InfiniteDuration();
  absl::Duration unhealthy_after_fault = absl::InfiniteDuration();
  absl::Duration exit_after = absl::InfiniteDuration();
  for (int attempt = 0; attempt < 3; ++attempt) {
    const Loss loss = LoseDevice("denoise:3=" + GetParam());
    ASSERT_EQ(loss.call.error_code(), grpc::StatusCode::UNAVAILABLE) << loss.call.error_message();
    ASSERT_NE(loss.exit_code, 0);
    unhealthy_after = std::min(unhealthy_after, loss.unhealthy_after);
    unhealthy_after_fault =
        std::min(unhealthy_after_fault, loss.unhealthy_after_begin - noticed_after);
    exit_after = std::min(exit_after, loss.exit_after);
    if (std::max(unhealthy_after, unhealthy_after_fault) <= absl::Milliseconds(100) &&
        exit_after <= absl::Seconds(2)) {
      break;
    }
  }
  EXPECT_LE(unhealthy_after, absl::Milliseconds(100));
  EXPECT_LE(unhealthy_after_fault, absl::Milliseconds(100));
  EXPECT_LE(exit_after, absl::Seconds(2));
  RecordProperty("unhealthy_after_ms",
                 static_cast<int>(absl::ToInt64Milliseconds(unhealthy_after)));
  RecordProperty(
      "unhealthy_after_begin_ms",
      static_cast<int>(absl::ToInt64Milliseconds(unhealthy_after_fault + noticed_after)));
  RecordProperty("exit_after_ms", static_cast<int>(absl::ToInt64Milliseconds(exit_after)));
}

std::vector<std::string> AllFaults() {
  std::vector<std::string> faults = {"hang"};
  for (const int code : kStickyCudaErrors) faults.push_back(absl::StrCat("cuda-", code));
  return faults;
}

INSTANTIATE_TEST_SUITE_P(EveryStickyError, DeviceLoss, ::testing::ValuesIn(AllFaults()));

// SIGTERM while a call runs.
struct Drain {
  grpc::Status call;
  absl::Duration exit_after;  // the signal
  int exit_code = 0;
};

Drain DrainWhileACallRuns(const std::vector<std::string>& flags) {
  FakeServerProcess server(flags, "10ms");
  const auto stub = v1::VariationService::NewStub(server.NewChannel());
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(1, 200);
  grpc::ClientContext context;
  const auto stream = stub->StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  stream->Read(&event);
  const absl::Time signalled = absl::Now();
  server.Signal(SIGTERM);
  Drain drain;
  while (stream->Read(&event)) {
  }
  drain.call = stream->Finish();
  drain.exit_code = server.WaitForExit();
  drain.exit_after = absl::Now() - signalled;
  return drain;
}

class DeviceLossWhileDraining : public ::testing::TestWithParam<std::string> {};

TEST_P(DeviceLossWhileDraining, EndsTheProcess) {
  const absl::Duration fault_after = 49 * absl::Milliseconds(10);  // the UNet calls before it
  const absl::Duration noticed_after = GetParam() == "hang" ? kHangIsNoticed : absl::ZeroDuration();
  absl::Duration exit_after = absl::InfiniteDuration();
  for (int attempt = 0; attempt < 3 && exit_after > absl::Seconds(2); ++attempt) {
    const Drain drain =
        DrainWhileACallRuns({"--hang-timeout=200ms", "--inject-faults=denoise:50=" + GetParam()});
    ASSERT_EQ(drain.call.error_code(), grpc::StatusCode::UNAVAILABLE);
    ASSERT_EQ(drain.exit_code, 1);
    exit_after = std::min(exit_after, drain.exit_after - fault_after - noticed_after);
  }
  EXPECT_LE(exit_after, absl::Seconds(2));
  RecordProperty("exit_after_ms", static_cast<int>(absl::ToInt64Milliseconds(exit_after)));
}

INSTANTIATE_TEST_SUITE_P(Each, DeviceLossWhileDraining, ::testing::Values("hang", "cuda-719"));

TEST(DeviceThatHangs, HoldsUpNobodyBeyondTheDrainTimeout) {
  const Drain drain = DrainWhileACallRuns(
      {"--hang-timeout=1h", "--drain-timeout=200ms", "--inject-faults=denoise:5=hang"});
  EXPECT_EQ(drain.call.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(drain.exit_code, 0);
  EXPECT_LE(drain.exit_after, absl::Seconds(10));  // one of gRPC's grace; without end otherwise
}

void ExpectOneRequestToEndWith(grpc::StatusCode code, const std::string& fault) {
  FakeServerProcess server({"--inject-faults=denoise:3=" + fault});
  const auto stub = v1::VariationService::NewStub(server.NewChannel());
  for (const grpc::StatusCode wanted : {code, grpc::StatusCode::OK}) {
    grpc::ClientContext context;
    v1::GenerateVariationsResponse response;
    EXPECT_EQ(stub->GenerateVariations(&context, Request(), &response).error_code(), wanted);
  }
}

TEST(DeviceErrors, ThatPassEndNothingButTheRequest) {
  ExpectOneRequestToEndWith(grpc::StatusCode::INTERNAL, "cuda-1");  // cudaErrorInvalidValue
}

TEST(DeviceErrors, OfTooLittleMemoryAreTheRequestsSize) {
  ExpectOneRequestToEndWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "cuda-2");
}

}  // namespace
}  // namespace image_variations
