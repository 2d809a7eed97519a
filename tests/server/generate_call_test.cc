// A call between its admission and its engine: cancelled there, nothing of it is left.
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

// All that a call works with, from the gate to warm engines.
struct Parts {
  Parts(const Clock& time, const EngineOptions& options, std::vector<ModelRunnerFactory> factories)
      : clock(time),
        metrics(static_cast<int>(factories.size())),
        gate({.devices = static_cast<int>(factories.size()),
              .max_unet_rows_ahead = int64_t{1} << 40}),
        engines(options, std::move(factories), clock, lifecycle, metrics) {
    EXPECT_TRUE(engines.WaitUntilWarm().ok());
    gate.Open();
  }

  AdmissionTicket Enter() {
    const AdmissionRequest one{.shape = {.samples = 1, .steps = 4, .rows = 2, .size = {8, 8}}};
    return gate.Enter(one, engines.costs(), clock.Now()).value();
  }

  std::shared_ptr<GenerateCall> NewCall(const std::string& caller, absl::Time deadline,
                                        GenerateReply& reply) {
    return std::make_shared<GenerateCall>(
        CallContext{clock, gate, codecs, metrics, engines, validator, caller_limits},
        JobId{++last_job}, image, deadline, reply, CallOrigin{.caller = caller});
  }

  const Clock& clock;
  const std::string image = Png();
  uint64_t last_job = 0;
  Metrics metrics;
  AdmissionGate gate;
  Lifecycle lifecycle{gate};
  CallerLimits caller_limits{{.max_requests = 1}};
  const RequestValidator validator{{.max_sample_count = kSamples,
                                    .max_step_count = kSteps,
                                    .max_unary_reply_bytes = int64_t{1} << 30},
                                   FakeModelRunner::DefaultInfo()};
  EnginePool engines;
  WorkerPool codecs{1};
};

// Time stands still, so nothing costs any: of two devices the one with fewer samples ahead is the
// sooner one. The first has a request, so that a call is the second's.
class CancelledCall : public ::testing::Test {
 protected:
  CancelledCall() {
    drawn_ = 0;  // the warm-up's
    other_ = parts_.Enter();
    EXPECT_EQ(other_.device(), 0);
    call_ = parts_.NewCall("a", absl::InfiniteFuture(), reply_);
  }
  ~CancelledCall() override { BeforeDecoding() = nullptr; }

  void Start() {
    v1::GenerateVariationsRequest request = Request(kSamples, kSteps);
    request.set_image(parts_.image);
    call_->Start(parts_.validator.Validate(request));
    EXPECT_EQ(reply_.admitted.samples_ahead(), 0);  // it is the idle one's
  }

  void LetTheSecondEngineTakeItsMail() {
    const auto listener = std::make_shared<DoneListener>();
    const auto request = parts_.validator.Validate(Request(1, 1)).value();
    ASSERT_TRUE(parts_.engines.at(1)
                    .Submit({.id = JobId{2},
                             .source = std::make_shared<const Image>(Image{1, 1, {0, 0, 0}}),
                             .plan = parts_.validator.MakePlan(request).value(),
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
    EXPECT_TRUE(Eventually([&] { return parts_.gate.requests() == 1; }));
    EXPECT_TRUE(Eventually([&] {
      const EngineStatus status = parts_.engines.at(1).status();
      return status.samples_running == 0 && status.samples_waiting == 0;
    }));
    EXPECT_LT(drawn_, kSamples);
    EXPECT_EQ(parts_.gate.bytes(), 0);
    EXPECT_TRUE(parts_.caller_limits.Enter("a", 1).ok());
    const AdmissionTicket next = parts_.Enter();
    EXPECT_EQ(next.device(), 1);
    EXPECT_EQ(next.forecast().samples_ahead, 0);
  }

  const SimulatedClock clock_;
  std::atomic<int> drawn_ = 0;  // pictures, by the second
  Recorder reply_;
  Parts parts_{clock_, {.batcher = {.max_slots = 1, .max_rows = 2}}, TwoFakes(&drawn_)};
  AdmissionTicket other_;
  std::shared_ptr<GenerateCall> call_;
};

TEST_F(CancelledCall, BeforeItsPictureIsDecoded) {
  int decoded = 0;
  BeforeDecoding() = [&] { ++decoded; };
  absl::Notification release;
  parts_.codecs.Run([&] { release.WaitForNotification(); });
  Start();
  EXPECT_EQ(parts_.gate.requests(), 2);
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

// A device whose UNet calls take half a second, and half a second more for each row.
class CallsInCompany : public ::testing::Test {
 protected:
  CallsInCompany() { is_warm_ = true; }

  std::vector<ModelRunnerFactory> TheFake() {
    std::vector<ModelRunnerFactory> factories;
    factories.push_back([this] {
      auto runner = std::make_unique<FakeModelRunner>();
      runner->on_call = [this](absl::string_view verb, int rows) {
        if (verb != "Denoise") return;
        clock_.Advance(absl::Seconds(0.5 + 0.5 * rows));
        if (!is_warm_) return;
        rows_of_calls_.push_back(rows);
        if (rows_of_calls_.size() > 1) return;
        is_in_first_call_.Notify();
        end_first_call_.WaitForNotification();
      };
      return runner;
    });
    return factories;
  }

  // Lets a call in, up to the engine's mailbox.
  std::shared_ptr<GenerateCall> Submit(const std::string& caller, int steps, absl::Time deadline,
                                       Recorder& reply) {
    v1::GenerateVariationsRequest request = Request(/*samples=*/1, steps);
    request.set_guidance_scale(1);
    std::shared_ptr<GenerateCall> call = parts_.NewCall(caller, deadline, reply);
    call->Start(parts_.validator.Validate(request));
    absl::Notification is_submitted;
    parts_.codecs.Run([&] { is_submitted.Notify(); });
    is_submitted.WaitForNotification();
    return call;
  }

  SimulatedClock clock_;
  std::atomic<bool> is_warm_ = false;
  std::vector<int> rows_of_calls_;  // after the warm-up; engine thread
  absl::Notification is_in_first_call_, end_first_call_;
  Recorder first_, urgent_, other_;
  Parts parts_{clock_, {.batcher = {.max_rows = 2}, .warm_up_budget = absl::Hours(1)}, TheFake()};
};

// Ten calls take ten seconds alone and fifteen in company: too long when of the sixteen that there
// are two are the answer's, as long as answers have taken.
TEST_F(CallsInCompany, KeepTheAnswersWayToItsCallerFree) {
  {
    AdmissionTicket earlier = parts_.Enter();
    earlier.ReportServed(clock_.Now(), /*is_complete=*/false);
    earlier.ReportAnswered(clock_.Now() + absl::Seconds(20));  // a tenth of it counts
  }
  const auto first = Submit("a", 1, absl::InfiniteFuture(), first_);
  is_in_first_call_.WaitForNotification();
  const auto urgent = Submit("b", 10, clock_.Now() + absl::Seconds(16), urgent_);
  const auto other = Submit("c", 10, absl::InfiniteFuture(), other_);
  end_first_call_.Notify();
  for (Recorder* reply : {&first_, &urgent_, &other_}) {
    reply->ended.WaitForNotification();
    EXPECT_TRUE(reply->status.ok()) << reply->status;
  }
  EXPECT_EQ(rows_of_calls_.at(1), 1);
}

}  // namespace

absl::StatusOr<Image> WatchedDecode(absl::string_view bytes, const DecodeLimits& limits) {
  if (BeforeDecoding()) BeforeDecoding()();
  return RealDecode(bytes, limits);
}

}  // namespace image_variations
