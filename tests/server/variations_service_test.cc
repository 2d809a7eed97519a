#include "server/variations_service.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "pipeline/engine/non_finite.h"
#include "pipeline/engine/row_buckets.h"
#include "pipeline/engine/self_test.h"
#include "prometheus/text_serializer.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/server/error_details.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Pair;

struct Stream {
  grpc::Status status;
  std::vector<v1::StreamVariationsResponse> events;
};

Stream Listen(TestServer& server, const v1::GenerateVariationsRequest& request,
              bool progress = false) {
  v1::StreamVariationsRequest stream_request;
  *stream_request.mutable_generation() = request;
  stream_request.set_progress(progress);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, stream_request);
  Stream stream;
  v1::StreamVariationsResponse event;
  while (reader->Read(&event)) stream.events.push_back(event);
  stream.status = reader->Finish();
  return stream;
}

TEST(GetModel, SaysWhatTheSelfTestFoundOfTheKernels) {
  for (const bool depends_on_batch : {false, true}) {
    TestServer server({.set_up_runner = [&](FakeModelRunner& runner) {
      if (depends_on_batch) {
        runner.depends_on_batch = [](int call_rows, int) { return call_rows == 6 ? 1u : 0u; };
      }
      const auto latents_of = [&](SlotId slot) { return runner.LatentsOf(slot); };
      runner.SetReproducible(
          IsReproducible(runner, latents_of, {.size = {8, 8}, .call_rows = RowBuckets(8)}).value());
    }});
    grpc::ClientContext context;
    v1::GetModelResponse model;
    ASSERT_TRUE(server.stub().GetModel(&context, {}, &model).ok());
    EXPECT_EQ(model.reproducible(), !depends_on_batch);
  }
}

TEST(GenerateVariations, AnswersEverySampleByIndexWithItsSeed) {
  TestServer server;
  const Reply reply = Generate(server, Request(/*samples=*/3));
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  ASSERT_EQ(reply.response.variations_size(), 3);
  for (int i = 0; i < 3; ++i) {
    const v1::Variation& variation = reply.response.variations(i);
    EXPECT_EQ(variation.index(), i);
    EXPECT_EQ(variation.seed(), 10 + i);
    EXPECT_EQ(variation.outcome(), v1::Variation::OUTCOME_GENERATED);
    EXPECT_EQ(variation.mime_type(), "image/png");
    EXPECT_TRUE(variation.has_similarity());
    EXPECT_EQ(DecodeImage(variation.image(), {})->width, 64);
  }
  ExpectIdle(server);
}

TEST(GenerateVariations, TellsEffectiveParametersAndMetrics) {
  TestServer server;
  v1::GenerateVariationsRequest request = Request(/*samples=*/2, /*steps=*/5);
  request.set_request_id("123e4567-e89b-12d3-a456-426614174000");
  const Reply reply = Generate(server, request);
  const v1::EffectiveParameters& parameters = reply.response.parameters();
  EXPECT_EQ(parameters.request_id(), "123e4567-e89b-12d3-a456-426614174000");
  EXPECT_EQ(parameters.seed(), 10);
  EXPECT_EQ(parameters.guidance_scale(), 3);
  EXPECT_EQ(parameters.step_count(), 5);
  EXPECT_EQ(parameters.sampler(), "ddim");
  EXPECT_EQ(parameters.width(), 64);
  EXPECT_EQ(parameters.preprocessing(), v1::PREPROCESSING_MODEL_CARD);
  EXPECT_EQ(parameters.model_id(), FakeModelRunner::DefaultInfo().model_id);
  EXPECT_EQ(reply.response.metrics().unet_rows(), 2 * 5 * 2);
  EXPECT_TRUE(reply.response.metrics().has_total_time());
  EXPECT_TRUE(reply.response.metrics().has_encode_time());
}

TEST(GenerateVariations, SeedOfOneSampleAloneGivesItsBytesAgain) {
  TestServer server;
  const Reply three = Generate(server, Request(/*samples=*/3));
  v1::GenerateVariationsRequest request = Request(/*samples=*/1);
  request.set_seed(three.response.variations(2).seed());
  const Reply one = Generate(server, request);
  EXPECT_EQ(one.response.variations(0).image(), three.response.variations(2).image());
}

TEST(GenerateVariations, MetadataSaysHowThePictureWasMadeUnlessOmitted) {
  TestServer server;
  v1::GenerateVariationsRequest request = Request();
  EXPECT_THAT(Generate(server, request).response.variations(0).image(),
              HasSubstr("Steps: 4, Sampler: DDIM, CFG scale: 3, Seed: 10, Size: 64x64"));
  request.mutable_output()->set_omit_metadata(true);
  EXPECT_THAT(Generate(server, request).response.variations(0).image(),
              ::testing::Not(HasSubstr("Steps")));
}

TEST(GenerateVariations, JpegIsMadeWhenAskedFor) {
  TestServer server;
  v1::GenerateVariationsRequest request = Request();
  request.mutable_output()->set_mime_type("image/jpeg");
  const Reply reply = Generate(server, request);
  EXPECT_EQ(reply.response.variations(0).mime_type(), "image/jpeg");
  EXPECT_EQ(reply.response.variations(0).image().substr(0, 2), "\xff\xd8");
}

TEST(GenerateVariations, ValidateOnlyChecksAndDoesNothing) {
  TestServer server;
  v1::GenerateVariationsRequest request = Request();
  request.set_validate_only(true);
  const Reply reply = Generate(server, request);
  EXPECT_TRUE(reply.status.ok());
  EXPECT_EQ(reply.response.variations_size(), 0);
  EXPECT_EQ(reply.response.parameters().step_count(), 4);
  EXPECT_EQ(reply.response.metrics().unet_rows(), 0);
}

TEST(GenerateVariations, ValidateOnlyIsRefusedAsTheRequestItselfWouldBe) {
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.admission.max_requests = 1;
  TestServer server(options);
  held.is_armed = true;
  std::thread first([&] { EXPECT_TRUE(Generate(server, Request()).status.ok()); });
  held.is_held.WaitForNotification();
  v1::GenerateVariationsRequest question = Request();
  question.set_validate_only(true);
  question.set_request_id("123e4567-e89b-12d3-a456-426614174000");
  const Reply refused = Generate(server, question);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "QUEUE_FULL");
  EXPECT_NE(refused.details().retry_delay, std::nullopt);
  EXPECT_EQ(server.gate().requests(), 1);
  held.release.Notify();
  first.join();
  EXPECT_TRUE(Generate(server, question).status.ok());
  ExpectIdle(server);
}

TEST(GenerateVariations, UnsafePictureIsFilteredAndTheCallSucceeds) {
  TestServer server({.set_up_runner = [](FakeModelRunner& runner) { runner.seeds_unsafe = {11}; }});
  const Reply reply = Generate(server, Request(/*samples=*/2));
  ASSERT_TRUE(reply.status.ok());
  EXPECT_EQ(reply.response.variations(0).outcome(), v1::Variation::OUTCOME_GENERATED);
  EXPECT_EQ(reply.response.variations(1).outcome(), v1::Variation::OUTCOME_FILTERED);
  EXPECT_EQ(reply.response.variations(1).image(), "");
}

TEST(GenerateVariations, OneSampleThatIsNotFiniteFailsAlone) {
  TestServer server(
      {.set_up_runner = [](FakeModelRunner& runner) { runner.seeds_not_finite = {11}; }});
  const Reply reply = Generate(server, Request(/*samples=*/3));
  ASSERT_TRUE(reply.status.ok());
  EXPECT_EQ(reply.response.variations(0).outcome(), v1::Variation::OUTCOME_GENERATED);
  EXPECT_EQ(reply.response.variations(2).outcome(), v1::Variation::OUTCOME_GENERATED);
  const v1::Variation& failed = reply.response.variations(1);
  EXPECT_EQ(failed.outcome(), v1::Variation::OUTCOME_FAILED);
  EXPECT_EQ(failed.error().code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(DetailsOf(failed.error()).reason, "NON_FINITE_OUTPUT");
  EXPECT_THAT(DetailsOf(failed.error()).metadata,
              ElementsAre(Pair("index", "1"), Pair("stage", "denoise")));
}

TEST(GenerateVariations, AnEmbeddingThatIsNotFiniteFailsTheCallWithItsStage) {
  std::atomic<bool> is_warm = false;
  TestServer server({.set_up_runner = [&](FakeModelRunner& runner) {
    runner.fault = [&](absl::string_view verb, int) {
      return is_warm && verb == "EmbedImage" ? NonFiniteError("embed") : absl::OkStatus();
    };
  }});
  is_warm = true;
  const Reply reply = Generate(server, Request(/*samples=*/2));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(reply.details().reason, "NON_FINITE_OUTPUT");
  EXPECT_THAT(reply.details().metadata, Contains(Pair("stage", "embed")));
  ExpectIdle(server);
}

TEST(GenerateVariations, CallFailsWhenAllSamplesFail) {
  TestServer server({.set_up_runner = [](FakeModelRunner& runner) {
    runner.seeds_not_finite = {10, 11};
  }});
  const Reply reply = Generate(server, Request(/*samples=*/2));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(reply.details().reason, "NON_FINITE_OUTPUT");
  ExpectIdle(server);
}

TEST(GenerateVariations, BadInputGetsStatusReasonAndFieldAndLeavesNothing) {
  TestServer server;
  const std::string png = Png();
  const std::string huge =
      png.substr(0, 8) +
      MakePngChunk("IHDR", absl::string_view("\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0", 13)) +
      MakePngChunk("IEND", "");
  const struct {
    std::string what;
    std::string image;
    absl::string_view reason;
  } pictures[] = {
      {"empty", "", "INVALID_FIELD"},
      {"not an image", "hello", "IMAGE_UNDECODABLE"},
      {"truncated png", png.substr(0, png.size() - 20), "IMAGE_UNDECODABLE"},
      {"50,000 x 50,000", huge, "IMAGE_TOO_LARGE"},
      {"truncated header", png.substr(0, 20), "IMAGE_UNDECODABLE"},
  };
  for (const auto& [what, image, reason] : pictures) {
    v1::GenerateVariationsRequest request = Request();
    request.set_image(image);
    const Reply reply = Generate(server, request);
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << what;
    EXPECT_EQ(reply.details().reason, reason) << what;
    EXPECT_THAT(reply.details().fields, ElementsAre("image")) << what;
    const Stream stream = Listen(server, request);
    EXPECT_THAT(DetailsOf(stream.status).fields, ElementsAre("generation.image")) << what;
  }
  EXPECT_THAT(Generate(server, Request(/*samples=*/-1)).details().fields,
              ElementsAre("sample_count"));
  ExpectIdle(server);
}

TEST(GenerateVariations, ReplyThatCouldBeTooLargeIsRefusedBeforeAnyWork) {
  TestServer server({.limits = {.max_unary_reply_bytes = 20'000}});
  EXPECT_TRUE(Generate(server, Request(/*samples=*/1)).status.ok());
  const Reply refused = Generate(server, Request(/*samples=*/2));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.details().reason, "REPLY_TOO_LARGE");
  EXPECT_THAT(refused.status.error_message(), HasSubstr("call StreamVariations"));
  EXPECT_TRUE(Listen(server, Request(/*samples=*/2)).status.ok());
}

TEST(StreamVariations, BeginsWithAdmittedAndEndsWithCompleted) {
  TestServer server;
  const Stream stream = Listen(server, Request(/*samples=*/2), /*progress=*/true);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  ASSERT_GE(stream.events.size(), 4u);
  EXPECT_TRUE(stream.events.front().has_admitted());
  EXPECT_EQ(stream.events.front().admitted().parameters().seed(), 10);
  EXPECT_TRUE(stream.events.back().has_completed());
  EXPECT_EQ(stream.events.back().completed().metrics().unet_rows(), 2 * 4 * 2);
  int variations = 0;
  int last_step = 0;
  for (const auto& event : stream.events) {
    variations += event.has_variation();
    if (!event.has_progress()) continue;
    EXPECT_GE(event.progress().steps_done(), last_step);
    EXPECT_EQ(event.progress().steps_total(), 2 * 4);
    last_step = event.progress().steps_done();
  }
  EXPECT_EQ(variations, 2);
  ExpectIdle(server);
}

TEST(StreamVariations, HasNoProgressUnlessAskedFor) {
  TestServer server;
  for (const auto& event : Listen(server, Request(/*samples=*/2)).events) {
    EXPECT_FALSE(event.has_progress());
  }
}

TEST(StreamVariations, ReaderThatComesLateMissesOnlyProgress) {
  constexpr int kSamples = 64;
  std::atomic<int> decoded = 0;
  TestServer server({.limits = {.max_sample_count = kSamples},
                     .set_up_runner = [&decoded](FakeModelRunner& runner) {
                       runner.on_call = [&decoded](absl::string_view verb, int rows) {
                         if (verb == "DecodeLatents") decoded += rows;
                       };
                     }});
  decoded = 0;  // the warm-up's
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(kSamples, /*steps=*/50);
  request.set_progress(true);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  ASSERT_TRUE(Eventually([&] { return decoded == kSamples; }));
  v1::StreamVariationsResponse event;
  int variations = 0;
  while (reader->Read(&event)) variations += event.has_variation();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(variations, kSamples);
  EXPECT_TRUE(event.has_completed());
  ExpectIdle(server);
}

// Far more steps than can run before a cancellation arrives.
constexpr int kManySamples = 500;
constexpr int kManySteps = 900;

TestServerOptions ForManySteps(std::atomic<int>* steps) {
  return {.limits = {.max_sample_count = kManySamples, .max_step_count = kManySteps},
          .engine = {.batcher = {.max_rows = 2}},
          .admission = {.max_unet_rows_ahead = int64_t{1} << 40},
          .set_up_runner = [steps](FakeModelRunner& runner) {
            runner.on_call = [steps](absl::string_view verb, int) { *steps += verb == "Denoise"; };
          }};
}

TEST(StreamVariations, CancelledCallFreesItsSlotsAtTheNextStep) {
  std::atomic<int> steps = 0;
  TestServer server(ForManySteps(&steps));
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(kManySamples, kManySteps);
  request.set_progress(true);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  while (reader->Read(&event) && !event.has_progress()) {
  }
  ASSERT_TRUE(event.has_progress());
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle(server);
  EXPECT_LT(steps, kManySamples * kManySteps);
}

TEST(GenerateVariations, CallOfAClientThatLeftIsStopped) {
  std::atomic<int> steps = 0;
  TestServerOptions options = ForManySteps(&steps);
  options.limits.max_unary_reply_bytes = int64_t{1} << 30;
  TestServer server(options);
  grpc::ClientContext context;
  grpc::Status status;
  std::thread client([&] {
    v1::GenerateVariationsResponse response;
    status =
        server.stub().GenerateVariations(&context, Request(kManySamples, kManySteps), &response);
  });
  EXPECT_TRUE(Eventually([&] { return server.engine().status().samples_running > 0; }));
  context.TryCancel();
  client.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle(server);
  EXPECT_LT(steps, kManySamples * kManySteps);
}

// A server whose every UNet call after the warm-up takes `step_time` of simulated time.
struct SlowSteps {
  SimulatedClock clock{absl::Now()};
  std::atomic<bool> is_slow = false;

  TestServerOptions Options(absl::Duration step_time) {
    return {.clock = &clock, .set_up_runner = [this, step_time](FakeModelRunner& runner) {
              runner.on_call = [this, step_time](absl::string_view verb, int) {
                if (is_slow && verb == "Denoise") clock.Advance(step_time);
              };
            }};
  }
};

TEST(GenerateVariations, DeadlineMidWayStopsTheSamplesAndTellsHowFarTheyCame) {
  SlowSteps slow;
  TestServer server(slow.Options(absl::Seconds(400)));
  slow.is_slow = true;
  const Reply reply = Generate(server, Request(/*samples=*/1, /*steps=*/10),
                               slow.clock.Now() + absl::Seconds(1000));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(reply.details().reason, "DEADLINE_PASSED");
  EXPECT_THAT(reply.details().metadata,
              ElementsAre(Pair("steps_done", "3"), Pair("steps_total", "10")));
  ExpectIdle(server);
}

TEST(GenerateVariations, DeadlineThatHasPassedIsToldBeforeAnyWork) {
  SlowSteps slow;
  TestServer server(slow.Options(absl::ZeroDuration()));
  const absl::Time deadline = slow.clock.Now() + absl::Seconds(1000);
  slow.clock.Advance(absl::Seconds(1001));
  const Reply reply = Generate(server, Request(), deadline);
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(reply.details().reason, "DEADLINE_PASSED");
}

TEST(GenerateVariations, DeadlineThatCannotBeMetIsRefusedByTheMeasuredStepCost) {
  SlowSteps slow;
  slow.is_slow = true;  // already in the warm-up
  TestServer server(slow.Options(absl::Seconds(100)));
  const absl::Time deadline = slow.clock.Now() + absl::Seconds(900);
  const Reply refused = Generate(server, Request(/*samples=*/1, /*steps=*/20), deadline);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "DEADLINE_UNREACHABLE");
  EXPECT_THAT(refused.details().metadata, Contains(Key("predicted")));
  EXPECT_EQ(refused.details().retry_delay, std::nullopt);
}

TEST(GenerateVariations, FullLineIsRefusedWithRetryInfo) {
  HeldEngine held;
  TestServerOptions options = held.Options();
  options.admission.max_requests = 1;
  TestServer server(options);
  held.is_armed = true;
  std::thread first([&] { EXPECT_TRUE(Generate(server, Request()).status.ok()); });
  held.is_held.WaitForNotification();
  const Reply refused = Generate(server, Request());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.details().reason, "QUEUE_FULL");
  EXPECT_NE(refused.details().retry_delay, std::nullopt);
  held.release.Notify();
  first.join();
}

TEST(StreamVariations, StartingServerSaysSo) {
  TestServer server({}, /*serves=*/false);
  EXPECT_EQ(DetailsOf(Listen(server, Request()).status).reason, "STARTING");
}

TEST(GetModel, TellsModelDefaultsAndLimits) {
  TestServer server;
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(server.stub().GetModel(&context, {}, &model).ok());
  EXPECT_EQ(model.model_id(), FakeModelRunner::DefaultInfo().model_id);
  EXPECT_THAT(model.samplers(), Contains("pndm"));
  EXPECT_EQ(model.defaults().step_count(), 50);
  EXPECT_EQ(model.defaults().guidance_scale(), 3);
  EXPECT_EQ(model.limits().max_size(), 128);
  EXPECT_EQ(model.limits().size_multiple(), 8);
  EXPECT_EQ(model.safety(), "required");
}

TEST(GetServerStatus, TellsStateAndStepCosts) {
  SlowSteps slow;
  slow.is_slow = true;  // already in the warm-up
  TestServer server(slow.Options(absl::Milliseconds(250)));
  grpc::ClientContext context;
  v1::GetServerStatusResponse status;
  ASSERT_TRUE(server.stub().GetServerStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::GetServerStatusResponse::STATE_SERVING);
  ASSERT_EQ(status.step_costs_size(), 5);  // 1, 2, 4, 8, 16 rows
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(status.step_costs(i).rows(), 1 << i);
    EXPECT_EQ(status.step_costs(i).time().seconds(), 0);
    EXPECT_NEAR(status.step_costs(i).time().nanos(), 250'000'000, 1000);
  }
}

TEST(Metrics, CountRpcsRequestsAndWork) {
  TestServer server;
  Generate(server, Request(/*samples=*/2, /*steps=*/4));
  Generate(server, Request(/*samples=*/-1));
  ExpectIdle(server);
  const std::string text =
      prometheus::TextSerializer().Serialize(server.metrics().registry()->Collect());
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"OK\""));
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"InvalidArgument\""));
  EXPECT_THAT(text, HasSubstr("image_variations_images_total{result=\"generated\"} 2"));
  EXPECT_THAT(text, HasSubstr("image_variations_unet_rows_total{engine=\"0\"} 16"));
  EXPECT_THAT(text,
              HasSubstr("image_variations_admission_rejected_total{reason=\"INVALID_FIELD\"} 1"));
}

TEST(Server, FiftyMixedRequestsAtATimeGetTheBytesTheyGetAlone) {
  TestServer server;
  std::vector<v1::GenerateVariationsRequest> requests;
  const char* const samplers[] = {"ddim", "euler", "pndm"};
  for (int i = 0; i < 50; ++i) {
    v1::GenerateVariationsRequest request = Request(1 + i % 3, 3 + i % 5);
    request.set_image(Png(i));
    request.set_sampler(samplers[i % 3]);
    request.set_seed(i);
    request.set_guidance_scale(i % 4 == 0 ? 1 : 5);
    request.set_width(i % 7 == 0 ? 128 : 64);
    if (i % 10 == 9) request.set_step_count(0);  // some are refused
    requests.push_back(request);
  }
  std::vector<Reply> alone, together(requests.size());
  for (const auto& request : requests) alone.push_back(Generate(server, request));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { together[i] = Generate(server, requests[i]); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(together[i].status.ok(), i % 10 != 9) << together[i].status.error_message();
    ASSERT_EQ(together[i].response.variations_size(), alone[i].response.variations_size());
    for (int k = 0; k < together[i].response.variations_size(); ++k) {
      EXPECT_EQ(together[i].response.variations(k).image(),
                alone[i].response.variations(k).image());
    }
  }
  ExpectIdle(server);
}

}  // namespace
}  // namespace image_variations
