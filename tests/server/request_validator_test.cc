#include "server/request_validator.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "absl/algorithm/container.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc_status.h"
#include "tests/server/error_details.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using Request = v1::GenerateVariationsRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string SmallPng(int width = 2, int height = 2) {
  const Image image{width, height, std::vector<uint8_t>(RgbBytes(width, height))};
  return EncodeImage(image, {}).value();
}

Request GoodRequest() {
  Request request;
  request.set_image(SmallPng());
  return request;
}

const RequestValidator& Validator() {
  static const auto* const validator =
      new RequestValidator(RequestLimits{}, FakeModelRunner::DefaultInfo());
  return *validator;
}

ErrorDetails Refused(const Request& request) {
  const auto valid = Validator().Validate(request);
  EXPECT_EQ(valid.status().code(), absl::StatusCode::kInvalidArgument);
  return DetailsOf(ToRpcStatus(valid.status()));
}

TEST(RequestValidator, FillsInDefaults) {
  const ValidRequest valid = Validator().Validate(GoodRequest()).value();
  EXPECT_EQ(valid.sample_count, 1);
  EXPECT_EQ(valid.guidance_scale, 3);
  EXPECT_EQ(valid.sampler.name, "pndm");
  EXPECT_EQ(valid.sampler.num_inference_steps, 50);
  EXPECT_EQ(valid.unet_calls, 51);
  EXPECT_EQ(valid.width, 64);
  EXPECT_EQ(valid.height, 64);
  EXPECT_EQ(valid.latent_area, 8 * 8);
  EXPECT_EQ(valid.format, ImageFormat::kPng);
  EXPECT_EQ(valid.jpeg_quality, 95);
  EXPECT_EQ(valid.source.width, 2);
}

TEST(RequestValidator, KeepsSeedZeroAndDrawsAnAbsentOne) {
  Request request = GoodRequest();
  request.set_seed(0);
  EXPECT_EQ(Validator().Validate(request)->seed, 0u);
  request.clear_seed();
  const uint64_t first = Validator().Validate(request)->seed;
  const uint64_t second = Validator().Validate(request)->seed;
  EXPECT_NE(first, second);  // once in four thousand million runs it would
  EXPECT_LT(first, uint64_t{1} << 32);
}

TEST(RequestValidator, KeepsRequestIdAndDrawsAnAbsentOne) {
  Request request = GoodRequest();
  const std::string drawn = Validator().Validate(request)->request_id;
  request.set_request_id(drawn);
  EXPECT_EQ(Validator().Validate(request)->request_id, drawn);
}

TEST(RequestValidator, RefusesEachBadFieldByItsName) {
  const struct {
    std::string field;
    std::function<void(Request&)> spoil;
  } cases[] = {
      {"image", [](Request& r) { r.clear_image(); }},
      {"sample_count", [](Request& r) { r.set_sample_count(-1); }},
      {"sample_count", [](Request& r) { r.set_sample_count(1'000'000); }},
      {"seed", [](Request& r) { r.set_seed(-1); }},
      {"seed", [](Request& r) { r.set_seed(std::numeric_limits<int64_t>::max()); }},
      {"guidance_scale", [](Request& r) { r.set_guidance_scale(std::nanf("")); }},
      {"guidance_scale", [](Request& r) { r.set_guidance_scale(INFINITY); }},
      {"guidance_scale", [](Request& r) { r.set_guidance_scale(-0.5f); }},
      {"guidance_scale", [](Request& r) { r.set_guidance_scale(20.5f); }},
      {"step_count", [](Request& r) { r.set_step_count(0); }},
      {"step_count", [](Request& r) { r.set_step_count(1'000'000); }},
      {"sampler", [](Request& r) { r.set_sampler("dimm"); }},
      {"eta", [](Request& r) { r.set_eta(0.5f); }},  // pndm has none
      {"eta", [](Request& r) { r.set_sampler("ddim"), r.set_eta(1.5f); }},
      {"eta", [](Request& r) { r.set_sampler("ddim"), r.set_eta(std::nanf("")); }},
      {"width", [](Request& r) { r.set_width(65); }},
      {"width", [](Request& r) { r.set_width(-8); }},
      {"height", [](Request& r) { r.set_height(136); }},  // twice 64 is the limit
      {"preprocessing", [](Request& r) { r.set_preprocessing(v1::Preprocessing(7)); }},
      {"priority", [](Request& r) { r.set_priority(v1::Priority(7)); }},
      {"output.mime_type", [](Request& r) { r.mutable_output()->set_mime_type("image/gif"); }},
      {"output.jpeg_quality", [](Request& r) { r.mutable_output()->set_jpeg_quality(101); }},
      {"output.jpeg_quality", [](Request& r) { r.mutable_output()->set_jpeg_quality(-1); }},
      {"request_id", [](Request& r) { r.set_request_id("42"); }},
  };
  for (const auto& [field, spoil] : cases) {
    Request request = GoodRequest();
    spoil(request);
    const ErrorDetails refused = Refused(request);
    EXPECT_EQ(refused.reason, "INVALID_FIELD") << field;
    EXPECT_THAT(refused.fields, ElementsAre(field));
    EXPECT_EQ(refused.metadata.at("field"), field);
    EXPECT_NE(refused.metadata.at("limit"), "") << field;
  }
}

TEST(RequestValidator, AcceptsTheEdgesOfEachRange) {
  const std::function<void(Request&)> edges[] = {
      [](Request& r) { r.set_sample_count(16); },
      [](Request& r) { r.set_guidance_scale(0); },
      [](Request& r) { r.set_guidance_scale(20); },
      [](Request& r) { r.set_step_count(250); },
      [](Request& r) { r.set_sampler("ddim"), r.set_step_count(1), r.set_eta(1); },
      [](Request& r) { r.set_width(128), r.set_height(64); },
      [](Request& r) { r.mutable_output()->set_jpeg_quality(100); },
      [](Request& r) { r.set_request_id("123e4567-E89b-12d3-a456-426614174000"); },
  };
  for (const auto& edge : edges) {
    Request request = GoodRequest();
    edge(request);
    EXPECT_TRUE(Validator().Validate(request).ok()) << Validator().Validate(request).status();
  }
}

TEST(RequestValidator, TellsAllBadFieldsAtOnce) {
  Request request;
  request.set_sample_count(-1);
  request.set_sampler("none");
  request.set_width(3);
  EXPECT_THAT(Refused(request).fields, ElementsAre("sample_count", "sampler", "width", "image"));
}

TEST(RequestValidator, CountsTheUnetCallsOfSamplersThatTakeMoreThanOneForAStep) {
  const std::pair<const char*, int> calls[] = {{"pndm", 11}, {"heun", 19}, {"dpmpp-2m", 10}};
  for (const auto& [sampler, count] : calls) {
    Request request = GoodRequest();
    request.set_sampler(sampler);
    request.set_step_count(10);
    const auto valid = Validator().Validate(request);
    EXPECT_EQ(valid->unet_calls, count) << sampler;
    EXPECT_EQ(valid->sampler.num_inference_steps, 10) << sampler;
  }
}

TEST(RequestValidator, RefusesMoreStepsThanTheSamplerCanDo) {
  Request request = GoodRequest();
  request.set_sampler("lcm");
  request.set_step_count(51);
  EXPECT_THAT(Refused(request).fields, ElementsAre("step_count"));
}

// It is not made before the request is let in.
TEST(RequestValidator, StepsThatTheNoiseScheduleDoesNotHaveAreRefusedWithThePlan) {
  RequestLimits limits;
  limits.max_step_count = 1000;
  const RequestValidator validator(limits, FakeModelRunner::DefaultInfo());
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = GoodRequest();
  request.mutable_generation()->set_sampler("ddim");
  request.mutable_generation()->set_step_count(1000);  // would begin at timestep 1000
  const auto valid = validator.Validate(request);
  ASSERT_TRUE(valid.ok()) << valid.status();
  const ErrorDetails refused = DetailsOf(ToRpcStatus(validator.MakePlan(*valid).status()));
  EXPECT_EQ(refused.reason, "INVALID_FIELD");
  EXPECT_THAT(refused.fields, ElementsAre("generation.step_count"));
}

TEST(RequestValidator, OffersOnlySamplersThatCanUseTheModel) {
  ModelInfo model = FakeModelRunner::DefaultInfo();
  model.sampler.prediction_type = PredictionType::kSample;
  model.sampler.default_sampler = "ddim";
  const RequestValidator validator(RequestLimits{}, model);
  const auto has = [&](absl::string_view name) {
    return absl::c_any_of(validator.samplers(),
                          [&](const auto& info) { return info.name == name; });
  };
  EXPECT_TRUE(has("ddim"));
  EXPECT_FALSE(has("pndm"));
  Request request = GoodRequest();
  request.set_sampler("pndm");
  EXPECT_THAT(std::string(validator.Validate(request).status().message()),
              HasSubstr("\"pndm\" is not known; known are ddim"));
}

TEST(RequestValidator, UnknownSamplerListsTheKnownOnes) {
  Request request = GoodRequest();
  request.set_sampler("dimm");
  EXPECT_THAT(std::string(Validator().Validate(request).status().message()),
              HasSubstr("\"dimm\" is not known; known are "));
}

TEST(RequestValidator, LongOrBinaryTextIsCutInTheError) {
  Request request = GoodRequest();
  request.set_sampler(std::string(100'000, '\x01'));
  EXPECT_LT(Validator().Validate(request).status().message().size(), 1000u);
}

TEST(RequestValidator, BadPictureAloneHasItsOwnReason) {
  Request request;
  request.set_image("GIF89a-not-decoded");
  const ErrorDetails unsupported = Refused(request);
  EXPECT_THAT(unsupported.reason, ::testing::AnyOf("IMAGE_UNSUPPORTED", "IMAGE_UNDECODABLE"));
  EXPECT_THAT(unsupported.fields, ElementsAre("image"));

  request.set_image("no picture at all");
  EXPECT_EQ(Refused(request).reason, "IMAGE_UNDECODABLE");

  RequestLimits limits;
  limits.image.max_pixels = 3;
  const RequestValidator small(limits, FakeModelRunner::DefaultInfo());
  request.set_image(SmallPng(2, 2));
  EXPECT_EQ(ReasonOf(small.Validate(request).status()), "IMAGE_TOO_LARGE");
}

TEST(RequestValidator, StreamedRequestHasItsPathInFields) {
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = GoodRequest();
  request.mutable_generation()->set_sample_count(-1);
  EXPECT_THAT(DetailsOf(ToRpcStatus(Validator().Validate(request).status())).fields,
              ElementsAre("generation.sample_count"));
}

v1::StreamVariationsRequest PreviewRequest(int interval_steps, int max_size) {
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = GoodRequest();
  request.mutable_preview()->set_interval_steps(interval_steps);
  request.mutable_preview()->set_max_size(max_size);
  return request;
}

TEST(RequestValidator, PreviewIsRefusedByAModelWithoutThem) {
  ModelInfo model = FakeModelRunner::DefaultInfo();
  model.has_previews = false;
  const RequestValidator validator({}, model);
  EXPECT_THAT(DetailsOf(ToRpcStatus(validator.Validate(PreviewRequest(1, 0)).status())).fields,
              ElementsAre("preview"));
}

TEST(RequestValidator, PreviewsHaveDefaultsAndLimits) {
  EXPECT_EQ(Validator().Validate(PreviewRequest(0, 0))->preview_interval_steps, 5);
  EXPECT_EQ(Validator().Validate(PreviewRequest(3, 32))->preview_interval_steps, 3);
  EXPECT_EQ(Validator().Validate(PreviewRequest(3, 32))->preview_max_side, 32);
  EXPECT_THAT(DetailsOf(ToRpcStatus(Validator().Validate(PreviewRequest(-1, -1)).status())).fields,
              ElementsAre("preview.interval_steps", "preview.max_size"));
}

TEST(RequestValidator, ReplyThatCouldPassTheLimitIsRefusedWithAdvice) {
  const int64_t worst = WorstCaseEncodedBytes(ImageFormat::kPng, 64, 64, 95);
  RequestLimits limits;
  limits.max_unary_reply_bytes = 2 * worst;
  const RequestValidator validator(limits, FakeModelRunner::DefaultInfo());
  Request request = GoodRequest();
  request.set_sample_count(2);
  EXPECT_TRUE(validator.CheckReplySize(validator.Validate(request).value()).ok());
  request.set_sample_count(3);
  const absl::Status refused = validator.CheckReplySize(validator.Validate(request).value());
  EXPECT_EQ(ReasonOf(refused), "REPLY_TOO_LARGE");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("StreamVariations"));
}

// Saturated noise: what both encoders do worst with.
Image Noise(int width, int height) {
  Image image{width, height, std::vector<uint8_t>(RgbBytes(width, height))};
  uint32_t state = 1;
  for (uint8_t& value : image.rgb) {
    state = state * 1664525u + 1013904223u;
    value = state & 0x80000000u ? 255 : 0;
  }
  return image;
}

// Every byte random: what deflate cannot shrink.
Image RandomBytes(int width, int height) {
  Image image = Noise(width, height);
  uint32_t state = 7;
  for (uint8_t& value : image.rgb) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

TEST(WorstCaseEncodedBytes, HoldsForNoiseOfEveryFormatAndQuality) {
  const std::string parameters(1000, 'x');
  for (const int quality : {10, 50, 75, 89, 90, 95, 96, 100}) {
    for (const auto& [width, height] : {std::pair(8, 8), std::pair(200, 120)}) {
      for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg}) {
        const EncodeOptions options{
            .format = format, .jpeg_quality = quality, .parameters = parameters};
        const int64_t bound = WorstCaseEncodedBytes(format, width, height, quality);
        EXPECT_LE(EncodeImage(Noise(width, height), options)->size(), bound)
            << MimeType(format) << " " << quality;
        EXPECT_LE(EncodeImage(RandomBytes(width, height), options)->size(), bound)
            << MimeType(format) << " " << quality;
      }
    }
  }
}

}  // namespace
}  // namespace image_variations
