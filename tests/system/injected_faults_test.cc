// The hidden flag --inject-faults on the server program: what its callers see of each fault, and
// what the server does afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/error_details.h"
#include "tests/system/programs.h"

namespace image_variations {
namespace {

using client::DecodeErrorDetails;
using client::Outcome;
using client::VariationRequest;
using client::VariationResult;
using ::testing::HasSubstr;

// In one UNet call for each step.
VariationRequest Request(int samples, int steps) {
  return {.image = ReadFile(kPictures / "penguin.png"),
          .sample_count = samples,
          .seed = 1,
          .step_count = steps,
          .sampler = "ddim"};
}

// One request after the other on a server with a fault in each, all of one sample and two steps, so
// that it is known which call is whose.
class FaultThatPasses : public ::testing::Test {
 protected:
  FaultThatPasses()
      : server_({"--inject-faults=embed:1=nan,"     // the first request's, which ends there
                 "denoise:2=nan,denoise:3=fail,"    // the second's second call, the third's first
                 "denoise:4=oom,denoise:5=cuda-1,"  // the fourth's and the fifth's first
                 "decode:1=nan,decode:2=fail,"      // the sixth's and seventh's
                 "score:1=nan,score:2=fail"}),      // the eighth's and ninth's
        client_(server_.Connect()) {}

  absl::StatusOr<VariationResult> Vary() { return client_.Vary(Request(1, 2)); }

  void ExpectNotFiniteAfter(const std::string& stage) {
    const absl::Status status = Vary().status();
    const client::ErrorDetails details = DecodeErrorDetails(status);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
    EXPECT_EQ(details.reason, "NON_FINITE_OUTPUT") << status;
    const auto named = details.metadata.find("stage");
    EXPECT_EQ(named == details.metadata.end() ? "" : named->second, stage) << status;
  }
  void ExpectError(absl::StatusCode code) { EXPECT_EQ(Vary().status().code(), code); }

  ServerProcess server_;
  const client::Client client_;
};

TEST_F(FaultThatPasses, EndsItsRequestAlone) {
  ExpectNotFiniteAfter("embed");
  ExpectNotFiniteAfter("denoise");
  ExpectError(absl::StatusCode::kInternal);
  ExpectError(absl::StatusCode::kResourceExhausted);  // a sample that does not fit alone
  ExpectError(absl::StatusCode::kInternal);           // a CUDA error that leaves the device usable
  ExpectNotFiniteAfter("decode");
  ExpectError(absl::StatusCode::kInternal);
  const auto unscored = Vary();  // counts as unsafe
  ASSERT_TRUE(unscored.ok()) << unscored.status();
  EXPECT_EQ(unscored->variations[0].outcome, Outcome::kFiltered);
  EXPECT_EQ(unscored->variations[0].image, "");
  ExpectError(absl::StatusCode::kInternal);
  const auto healthy = Vary();
  ASSERT_TRUE(healthy.ok()) << healthy.status();
  EXPECT_NE(healthy->variations[0].outcome, Outcome::kFailed);
  EXPECT_EQ(client_.GetServerStatus()->samples_waiting, 0);
}

TEST(InjectedFault, ANumberThatIsNotFiniteFailsItsSampleAlone) {
  const ServerProcess server({"--inject-faults=denoise:3=nan"});
  const client::Client client = server.Connect();
  const auto result = client.Vary(Request(4, 6));
  const auto again = client.Vary(Request(4, 6));
  ASSERT_TRUE(result.ok() && again.ok()) << result.status() << again.status();
  int failed = 0;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NE(again->variations[i].outcome, Outcome::kFailed) << i;
    if (result->variations[i].outcome == Outcome::kFailed) {
      ++failed;
      EXPECT_EQ(result->variations[i].error.code, "INTERNAL");
      EXPECT_THAT(result->variations[i].error.message, HasSubstr("not finite after denoise"));
    } else {
      EXPECT_EQ(result->variations[i].image, again->variations[i].image) << i;
    }
  }
  EXPECT_EQ(failed, 1);
}

// Whether it came to that: false when the call was of one sample, as it is on a machine that was so
// busy in the warm-up that more rows seemed to cost more.
bool TrySplitting() {
  const ServerProcess server({"--inject-faults=denoise:3=oom"});
  const client::Client client = server.Connect();
  const auto result = client.Vary(Request(4, 6));
  if (absl::IsResourceExhausted(result.status())) return false;
  const auto again = client.Vary(Request(4, 6));
  EXPECT_TRUE(result.ok() && again.ok()) << result.status() << again.status();
  for (size_t i = 0; result.ok() && again.ok() && i < 4; ++i) {
    EXPECT_NE(result->variations[i].outcome, Outcome::kFailed) << i;
    EXPECT_EQ(result->variations[i].image, again->variations[i].image) << i;
  }
  EXPECT_THAT(server.Metrics(),
              HasSubstr("\nimage_variations_out_of_device_memory_total{engine=\"0\"} 1\n"));
  return true;
}

TEST(InjectedFault, TooLittleMemorySplitsTheCallWithTheSameBytes) {
  if (!TrySplitting() && !TrySplitting()) GTEST_SKIP() << "calls of one sample: nothing to split";
}

// Returns the reason that the caller was told.
std::string ExpectServerToEndAt(const std::string& fault,
                                const std::string& flag = "--device=cpu") {
  SCOPED_TRACE(fault);
  ServerProcess server({"--inject-faults=" + fault, flag});
  const absl::Status status = server.Connect().Vary(Request(2, 6)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(server.WaitForExit(), 1);
  return DecodeErrorDetails(status).reason;
}

// On a machine that stands still for a second the connection may end before the answer comes.
TEST(InjectedFault, ADeviceThatIsGoneEndsTheServer) {
  const std::vector<std::string> reasons = {ExpectServerToEndAt("embed:1=lost"),
                                            ExpectServerToEndAt("denoise:3=cuda-700"),
                                            ExpectServerToEndAt("decode:1=cuda-719")};
  EXPECT_THAT(reasons, ::testing::Contains("DEVICE_FAILED"));
}

// On such a machine the watchdog may be early, with the same end.
TEST(InjectedFault, ACallThatHangsEndsTheServer) {
  ExpectServerToEndAt("denoise:3=hang", "--hang-timeout=1s");
}

}  // namespace
}  // namespace image_variations
