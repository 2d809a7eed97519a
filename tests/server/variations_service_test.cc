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
#include "tests/server/error_details.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(GetModel, SaysWhatTheSelfTestFoundOfTheKernels) {
  for (const bool depends_on_batch : {false, true}) {
    TestServer server({.set_up_runner = [&](FakeModelRunner& runner) {
      if (depends_on_batch) {
        runner.depends_on_batch = [](int call_rows, int) { return call_rows == 6 ? 1u : 0u; };
      }
      constexpr JobId kJob{7};
      ASSERT_TRUE(runner.EmbedImage(kJob, {}, Preprocessing::kModelCard).ok());
      const auto latents_of = [&](SlotId slot) { return runner.LatentsOf(slot); };
      const SelfTestOptions options{.size = {8, 8}, .call_rows = RowBuckets(8)};
      runner.SetReproducible(
          TestReproducibility(runner, kJob, latents_of, RealClock(), options)->is_reproducible);
      runner.Forget(kJob);
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

TEST(StreamVariations, BeginsWithAdmittedAndEndsWithCompleted) {
  TestServer server;
  const StreamReply stream = Listen(server, Request(/*samples=*/2), /*progress=*/true);
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
  const std::string text = MetricsText(server);
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
