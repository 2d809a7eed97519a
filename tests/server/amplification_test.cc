// What a request costs the server before it is let in, in terms of its own bytes: the bound of
// SECURITY.md is a hundred times.
#include <algorithm>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/image/codec.h"
#include "pipeline/sampler/sampler.h"
#include "server/request_validator.h"
#include "server/rpc_status.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/support/cpu_time.h"
#include "tests/support/failing_malloc.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

// What the smallest request may cost: a status that names its fields. The call's own headers, some
// hundred bytes, are not counted.
constexpr int64_t kFreeBytes = 4 << 10;
constexpr double kFreeSeconds = 2e-3;
constexpr int64_t kTimes = 100;
// What a caller spends on a byte at the least: to write, frame and send it.
constexpr double kCallerSecondsPerByte = 1e-9;

void ExpectNoAmplification(const v1::GenerateVariationsRequest& request) {
  static const auto* const validator =
      new RequestValidator(RequestLimits{}, FakeModelRunner::DefaultInfo());
  const std::string wire = request.SerializeAsString();
  const auto size = static_cast<int64_t>(wire.size());
  double seconds = 1e9;
  AllocationCounts counts;
  for (int i = 0; i < 3; ++i) {
    const absl::Duration begin = ThreadCpuTime();
    counts = RunWithFailingMalloc(0, [&] {
      v1::GenerateVariationsRequest received;
      if (!received.ParseFromString(wire)) return;
      static_cast<void>(ToGrpcStatus(validator->Validate(received).status()));
    });
    seconds = std::min(seconds, absl::ToDoubleSeconds(ThreadCpuTime() - begin));
  }
  EXPECT_LE(counts.most_bytes, kFreeBytes + kTimes * size);
  EXPECT_LE(seconds, kFreeSeconds + kTimes * kCallerSecondsPerByte * static_cast<double>(size));
  ::testing::Test::RecordProperty("bytes_sent", static_cast<int>(size));
  ::testing::Test::RecordProperty("bytes_taken", static_cast<int>(counts.most_bytes));
  ::testing::Test::RecordProperty("microseconds", static_cast<int>(1e6 * seconds));
}

v1::GenerateVariationsRequest WithImage(std::string image) {
  v1::GenerateVariationsRequest request;
  request.set_image(std::move(image));
  return request;
}

std::string Repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST(Amplification, OfAnEmptyRequest) { ExpectNoAmplification({}); }

TEST(Amplification, OfASmallRequestWithEverythingWrong) {
  v1::GenerateVariationsRequest request = WithImage("GIF89a");
  request.set_sample_count(-1);
  request.set_seed(-1);
  request.set_guidance_scale(1e30f);
  request.set_step_count(1'000'000'000);
  request.set_sampler("no-such");
  request.set_eta(-1);
  request.set_width(1'000'000'000);
  request.set_height(-1);
  request.set_request_id("x");
  ExpectNoAmplification(request);
}

TEST(Amplification, OfLongWordsWhereShortOnesBelong) {
  v1::GenerateVariationsRequest request = WithImage("x");
  request.set_sampler(std::string(1 << 20, 'a'));
  request.set_request_id(std::string(1 << 20, '\x01'));
  ExpectNoAmplification(request);
}

TEST(Amplification, OfAPngOfEmptyChunks) {
  const std::string png = EncodeImage(MakeNoise(8, 8), {}).value();
  ExpectNoAmplification(
      WithImage(png.substr(0, 33) + Repeated(MakePngChunk("tEXt", ""), 50'000) + png.substr(33)));
}

TEST(Amplification, OfAJpegOfEmptySegments) {
  const std::string jpeg = EncodeImage(MakeNoise(8, 8), {.format = ImageFormat::kJpeg}).value();
  ExpectNoAmplification(WithImage(
      jpeg.substr(0, 2) + Repeated(std::string("\xFF\xFE\0\2", 4), 200'000) + jpeg.substr(2)));
}

TEST(Amplification, OfAJpegOfFillBytes) {
  ExpectNoAmplification(WithImage("\xFF\xD8\xFF" + std::string(1 << 20, '\xFF')));
}

class AmplificationOfTheMostSteps : public ::testing::TestWithParam<SamplerInfo> {};

// The plan is made of those who were let in.
TEST_P(AmplificationOfTheMostSteps, OnTheSmallestPicture) {
  v1::GenerateVariationsRequest request = WithImage(EncodeImage(MakeNoise(1, 1), {}).value());
  request.set_sampler(std::string(GetParam().name));
  request.set_step_count(250);
  ExpectNoAmplification(request);
}

TEST_P(AmplificationOfTheMostSteps, PlansTakeWhatAdmissionCounts) {
  for (const bool uses_karras_sigmas : {false, true}) {
    SamplerConfig config;
    config.use_karras_sigmas = uses_karras_sigmas;
    config.original_inference_steps = 250;
    const SamplerChoice choice{std::string(GetParam().name), 250};
    const AllocationCounts counts =
        RunWithFailingMalloc(0, [&] { EXPECT_TRUE(MakeSamplerPlan(config, choice).ok()); });
    EXPECT_LE(counts.most_bytes, PlanBytesOf(config, UnetCallsOf(config, choice).value()));
    RecordProperty("plan_bytes", static_cast<int>(counts.most_bytes));
  }
}

INSTANTIATE_TEST_SUITE_P(EverySampler, AmplificationOfTheMostSteps, ::testing::ValuesIn(Samplers()),
                         [](const auto& sampler) {
                           std::string name(sampler.param.name);
                           absl::c_replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace image_variations
