// A call that is cancelled between its admission and its engine, of two: nothing of it is left.
#include "server/generate_call.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "pipeline/image/codec.h"
#include "tests/server/test_calls.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {

// By its symbol: --wrap has every call of it arrive at the second.
#define IV_DECODE \
  "_ZN16image_variations11DecodeImageEN4absl7debian311string_viewERKNS_12DecodeLimitsE"
absl::StatusOr<Image> RealDecode(absl::string_view, const DecodeLimits&) asm("__real_" IV_DECODE);
absl::StatusOr<Image> WatchedDecode(absl::string_view,
                                    const DecodeLimits&) asm("__wrap_" IV_DECODE);

namespace {

namespace v1 = imagevariations::v1;

std::function<void()>& BeforeDecoding() {
  static std::function<void()> hook;
  return hook;
}

struct Recorder final : public GenerateReply {
  void OnAdmitted(v1::Admitted news, int /*sample_count*/) override { admitted = std::move(news); }
  void OnProgress(v1::Progress) override {}
  void OnPreview(PreviewPicture) override {}
  void OnVariation(v1::Variation) override { ++variations; }
  void OnEnd(absl::StatusOr<v1::Completed> completed) override {
    status = completed.status();
    ended.Notify();
  }

  v1::Admitted admitted;
  std::atomic<int> variations = 0;
  absl::Status status;
  absl::Notification ended;
};

struct DoneListener final : public JobListener {
  void OnProgress(const JobProgress&) override {}
  void OnSample(int /*index*/, absl::StatusOr<SampleResult>) override {}
  void OnDone(const JobMetrics&) override { done.Notify(); }

  absl::Notification done;
};

// The second counts what it decodes.
std::vector<ModelRunnerFactory> TwoFakes(std::atomic<int>* decoded) {
  std::vector<ModelRunnerFactory> factories;
  factories.push_back([] { return std::make_unique<FakeModelRunner>(); });
  factories.push_back([decoded] {
    auto runner = std::make_unique<FakeModelRunner>();
    runner->on_call = [decoded](absl::string_view verb, int rows) {
      if (verb == "DecodeLatents") *decoded += rows;
    };
    return runner;
  });
  return factories;
}

// Far more work, one sample after the other, than is done before an engine hears of the end.
constexpr int kSamples = 40;
constexpr int kSteps = 900;

// Time stands still, so nothing costs any: of two devices the one with fewer samples ahead is the
// sooner one. The first has a request, so that a call is the second's.
class CancelledCall : public ::testing::Test {
 protected:
  CancelledCall() {
    EXPECT_TRUE(engines_.WaitUntilWarm().ok());
    drawn_ = 0;  // the warm-up's
    gate_.Open();
    other_ = Enter();
    EXPECT_EQ(other_.device(), 0);
    call_ = std::make_shared<GenerateCall>(
        CallContext{clock_, gate_, codecs_, metrics_, engines_, validator_, caller_limits_},
        JobId{1}, image_, absl::InfiniteFuture(), reply_, CallOrigin{.caller = "a"});
  }
  ~CancelledCall() override { BeforeDecoding() = nullptr; }

  AdmissionTicket Enter() {
    const AdmissionRequest one{.shape = {.samples = 1, .steps = 4, .rows = 2, .size = {8, 8}}};
    return gate_.Enter(one, engines_.costs(), clock_.Now()).value();
  }

  void Start() {
    v1::GenerateVariationsRequest request = Request(kSamples, kSteps);
    request.set_image(image_);
    call_->Start(validator_.Validate(request));
    EXPECT_EQ(reply_.admitted.samples_ahead(), 0);  // it is the idle one's
  }

  void LetTheSecondEngineTakeItsMail() {
    const auto listener = std::make_shared<DoneListener>();
    const auto request = validator_.Validate(Request(1, 1)).value();
    ASSERT_TRUE(engines_.at(1)
                    .Submit({.id = JobId{2},
                             .source = std::make_shared<const Image>(Image{1, 1, {0, 0, 0}}),
                             .plan = validator_.MakePlan(request).value(),
                             .latent_width = 8,
                             .latent_height = 8,
                             .listener = listener})
                    .ok());
    listener->done.WaitForNotification();
  }

  void ExpectCancelledWithoutATrace() {
    reply_.ended.WaitForNotification();
    EXPECT_EQ(reply_.status.code(), absl::StatusCode::kCancelled) << reply_.status;
    EXPECT_EQ(reply_.variations, 0);
    call_.reset();
    EXPECT_TRUE(Eventually([&] { return gate_.requests() == 1; }));
    EXPECT_TRUE(Eventually([&] {
      const EngineStatus status = engines_.at(1).status();
      return status.samples_running == 0 && status.samples_waiting == 0;
    }));
    EXPECT_LT(drawn_, kSamples);
    EXPECT_EQ(gate_.bytes(), 0);
    EXPECT_TRUE(caller_limits_.Enter("a", 1).ok());
    const AdmissionTicket next = Enter();
    EXPECT_EQ(next.device(), 1);
    EXPECT_EQ(next.forecast().samples_ahead, 0);
  }

  const SimulatedClock clock_;
  const std::string image_ = Png();
  Metrics metrics_{2};
  AdmissionGate gate_{{.devices = 2, .max_unet_rows_ahead = int64_t{1} << 40}};
  Lifecycle lifecycle_{gate_};
  CallerLimits caller_limits_{{.max_requests = 1}};
  const RequestValidator validator_{{.max_sample_count = kSamples,
                                     .max_step_count = kSteps,
                                     .max_unary_reply_bytes = int64_t{1} << 30},
                                    FakeModelRunner::DefaultInfo()};
  std::atomic<int> drawn_ = 0;  // pictures, by the second
  EnginePool engines_{{.batcher = {.max_slots = 1, .max_rows = 2}},
                      TwoFakes(&drawn_),
                      clock_,
                      lifecycle_,
                      metrics_};
  AdmissionTicket other_;
  Recorder reply_;
  std::shared_ptr<GenerateCall> call_;
  WorkerPool codecs_{1};
};

TEST_F(CancelledCall, BeforeItsPictureIsDecoded) {
  int decoded = 0;
  BeforeDecoding() = [&] { ++decoded; };
  absl::Notification release;
  codecs_.Run([&] { release.WaitForNotification(); });
  Start();
  EXPECT_EQ(gate_.requests(), 2);
  call_->Cancel();
  release.Notify();
  ExpectCancelledWithoutATrace();
  EXPECT_EQ(decoded, 0);
}

// The engine hears of the end, and forgets it, before it hears of the job.
TEST_F(CancelledCall, WhileItsPictureIsDecoded) {
  BeforeDecoding() = [this] {
    call_->Cancel();
    LetTheSecondEngineTakeItsMail();
  };
  Start();
  ExpectCancelledWithoutATrace();
}

}  // namespace

absl::StatusOr<Image> WatchedDecode(absl::string_view bytes, const DecodeLimits& limits) {
  if (BeforeDecoding()) BeforeDecoding()();
  return RealDecode(bytes, limits);
}

}  // namespace image_variations
