#include "client/client.h"

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_variation_server.h"
#include "tests/client/virtual_time.h"

namespace image_variations::client {
namespace {

namespace pb = imagevariations::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

grpc::Status QueueFull() {
  return Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20));
}

class ClientTest : public ::testing::Test {
 protected:
  Client Connect(const FakeVariationServer& server, int max_attempts = 4) {
    ConnectOptions options{.address = server.address()};
    options.retry.max_attempts = max_attempts;
    time_.Use(options);
    return *Client::Connect(std::move(options));
  }

  VirtualTime time_;
};

TEST_F(ClientTest, VaryReturnsEveryVariationByIndexWithParametersAndMetrics) {
  FakeVariationServer server;
  auto result = Connect(server).Vary({.image = "picture", .sample_count = 3, .seed = 40});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->variations.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    const Variation& variation = result->variations[static_cast<size_t>(i)];
    EXPECT_EQ(variation.index, i);
    EXPECT_EQ(variation.seed, 40 + i);
    EXPECT_EQ(variation.image, absl::StrCat("image ", i));
    EXPECT_EQ(variation.outcome, Outcome::kGenerated);
    EXPECT_EQ(variation.similarity, 0.5f);
  }
  EXPECT_EQ(result->parameters.sampler, "pndm");
  EXPECT_EQ(result->metrics.total_time, absl::Seconds(3));
  EXPECT_EQ(result->metrics.unet_rows, 200);
}

TEST_F(ClientTest, EveryFieldOfTheRequestReachesTheServer) {
  FakeVariationServer server;
  ASSERT_TRUE(Connect(server)
                  .Vary({.image = "picture",
                         .sample_count = 2,
                         .seed = 0,
                         .guidance_scale = 0.0f,
                         .step_count = 50,
                         .sampler = "ddim",
                         .eta = 0.5f,
                         .width = 512,
                         .height = 256,
                         .preprocessing = Preprocessing::kClipProcessor,
                         .mime_type = "image/jpeg",
                         .jpeg_quality = 80,
                         .omit_metadata = true,
                         .request_id = "11111111-2222-4333-8444-555555555555",
                         .priority = Priority::kBatch})
                  .ok());
  ASSERT_EQ(server.calls().size(), 1u);
  const pb::GenerateVariationsRequest request = server.calls()[0].generation();
  EXPECT_EQ(request.ShortDebugString(),
            "image: \"picture\" sample_count: 2 seed: 0 guidance_scale: 0 step_count: 50 "
            "sampler: \"ddim\" eta: 0.5 width: 512 height: 256 "
            "preprocessing: PREPROCESSING_CLIP_PROCESSOR output { mime_type: \"image/jpeg\" "
            "jpeg_quality: 80 omit_metadata: true } "
            "request_id: \"11111111-2222-4333-8444-555555555555\" priority: PRIORITY_BATCH");
}

TEST_F(ClientTest, AbsentOptionalFieldsStayAbsent) {
  FakeVariationServer server;
  ASSERT_TRUE(Connect(server).Vary({.image = "picture"}).ok());
  const pb::GenerateVariationsRequest request = server.calls()[0].generation();
  EXPECT_FALSE(request.has_seed());
  EXPECT_FALSE(request.has_guidance_scale());
  EXPECT_FALSE(request.has_step_count());
  EXPECT_FALSE(request.has_eta());
}

TEST_F(ClientTest, EventsAreReportedInTheOrderTheyHappen) {
  FakeVariationServer server;
  std::vector<std::string> events;
  auto result = Connect(server).Vary(
      {.image = "picture", .sample_count = 2},
      {.on_admitted =
           [&](const Admitted& admitted) {
             events.push_back(absl::StrCat("admitted behind ", admitted.samples_ahead));
           },
       .on_progress =
           [&](const Progress& progress) {
             events.push_back(absl::StrCat(progress.steps_done, "/", progress.steps_total, ", ",
                                           absl::FormatDuration(progress.predicted_remaining)));
           },
       .on_variation =
           [&](const Variation& variation) {
             events.push_back(absl::StrCat("variation ", variation.index));
           }});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(events, ElementsAre("admitted behind 2", "0/50, 2s", "25/50, 1s", "50/50, 0",
                                  "variation 1", "variation 0"));
}

TEST_F(ClientTest, ARefusedCallIsMadeAgainAfterTheServersTimeWithTheSameRequestId) {
  FakeVariationServer server;
  server.RefuseNext(QueueFull());
  server.RefuseNext(QueueFull());
  std::vector<int> attempts;
  auto result = Connect(server).Vary({.image = "picture"}, {.on_retry = [&](const Retry& retry) {
                                       attempts.push_back(retry.attempt);
                                     }});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(attempts, ElementsAre(2, 3));
  EXPECT_GE(time_.slept(), absl::Seconds(40));
  EXPECT_LE(time_.slept(), absl::Seconds(50));
  ASSERT_EQ(server.calls().size(), 3u);
  const std::string id = server.calls()[0].generation().request_id();
  EXPECT_THAT(id,
              MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_EQ(server.calls()[2].generation().request_id(), id);
}

TEST_F(ClientTest, TheLastRefusalIsReturnedWhenAttemptsAreUsedUp) {
  FakeVariationServer server;
  for (int i = 0; i < 3; ++i) server.RefuseNext(QueueFull());
  auto result = Connect(server, 2).Vary({.image = "picture"});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(server.calls().size(), 2u);
}

TEST_F(ClientTest, ABadRequestIsNotRetried) {
  FakeVariationServer server;
  server.RefuseNext(FieldRefusal("sample_count is -1, at least 0", "sample_count"));
  auto result = Connect(server).Vary({.image = "picture", .sample_count = -1});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server.calls().size(), 1u);
  EXPECT_EQ(time_.slept(), absl::ZeroDuration());
}

TEST_F(ClientTest, AWaitThatWouldPassTheDeadlineIsNotMade) {
  FakeVariationServer server;
  server.RefuseNext(QueueFull());
  auto result =
      Connect(server).Vary({.image = "picture", .deadline = time_.start() + absl::Seconds(15)});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(time_.slept(), absl::ZeroDuration());
}

TEST_F(ClientTest, ErrorDetailsAreDecoded) {
  FakeVariationServer server;
  server.RefuseNext(FieldRefusal("guidance_scale is 99, limit 20", "guidance_scale"));
  server.RefuseNext(QueueFull());
  const Client client = Connect(server, 1);
  const ErrorDetails bad = DecodeErrorDetails(client.Vary({.image = "picture"}).status());
  EXPECT_EQ(bad.reason, "INVALID_FIELD");
  EXPECT_EQ(bad.metadata.at("limit"), "16");
  ASSERT_EQ(bad.field_violations.size(), 1u);
  EXPECT_EQ(bad.field_violations[0].field, "guidance_scale");
  EXPECT_EQ(bad.field_violations[0].description, "guidance_scale is 99, limit 20");
  EXPECT_EQ(bad.retry_after, std::nullopt);
  const ErrorDetails full = DecodeErrorDetails(client.Vary({.image = "picture"}).status());
  EXPECT_EQ(full.reason, "QUEUE_FULL");
  EXPECT_EQ(full.retry_after, absl::Seconds(20));
}

TEST_F(ClientTest, AStatusWithoutDetailsHasNone) {
  EXPECT_EQ(DecodeErrorDetails(absl::InternalError("x")).reason, "");
}

TEST_F(ClientTest, AStreamThatBreaksAfterAVariationIsAnErrorAndNotRetried) {
  FakeVariationServer server({.variations_before_breaking = 1});
  int arrived = 0;
  auto result = Connect(server).Vary({.image = "picture", .sample_count = 3},
                                     {.on_variation = [&](const Variation&) { ++arrived; }});
  EXPECT_EQ(result.status(), absl::UnavailableError("device lost"));
  EXPECT_EQ(arrived, 1);
  EXPECT_EQ(server.calls().size(), 1u);
}

TEST_F(ClientTest, AReplyWithoutItsEndIsAnError) {
  FakeVariationServer server({.send_completed = false});
  auto result = Connect(server).Vary({.image = "picture"});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("complete"));
}

TEST_F(ClientTest, AMissingVariationIsAnError) {
  FakeVariationServer server({.missing_variation = 1});
  auto result = Connect(server).Vary({.image = "picture", .sample_count = 3});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("variation 1"));
}

TEST_F(ClientTest, FilteredAndFailedSamplesAreResultsNotErrors) {
  FakeVariationServer server(
      {.outcomes = {{0, pb::Variation::OUTCOME_FILTERED}, {1, pb::Variation::OUTCOME_FAILED}}});
  auto result = Connect(server).Vary({.image = "picture", .sample_count = 2});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->variations[0].outcome, Outcome::kFiltered);
  EXPECT_EQ(result->variations[0].image, "");
  EXPECT_EQ(result->variations[1].outcome, Outcome::kFailed);
  EXPECT_EQ(result->variations[1].error.code, "INTERNAL");
  EXPECT_EQ(result->variations[1].error.message, "latents are not finite");
}

TEST_F(ClientTest, TheCancelFlagEndsTheCallAtTheServerToo) {
  FakeVariationServer server({.hang_when_admitted = true});
  std::atomic<bool> cancelled = false;
  auto result = Connect(server).Vary(
      {.image = "picture"},
      {.on_admitted = [&](const Admitted&) { cancelled = true; }, .cancelled = &cancelled});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(server.WaitUntilCancelled(absl::Seconds(10)));
}

TEST_F(ClientTest, TheCancelFlagEndsTheWaitBetweenAttempts) {
  FakeVariationServer server;
  server.RefuseNext(QueueFull());
  std::atomic<bool> cancelled = false;
  auto result = Connect(server).Vary(
      {.image = "picture"},
      {.on_retry = [&](const Retry&) { cancelled = true; }, .cancelled = &cancelled});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(server.calls().size(), 1u);
  EXPECT_LT(time_.slept(), absl::Seconds(20));
}

TEST_F(ClientTest, AServerThatIsNotThereIsUnavailable) {
  ConnectOptions options{.address = "unix:/tmp/no-server-listens-here"};
  time_.Use(options);
  auto result = Client::Connect(options)->Vary({.image = "picture"});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_GE(time_.slept(), absl::Seconds(1 + 2 + 4));
}

TEST_F(ClientTest, AnEmptyAddressIsRefused) {
  EXPECT_EQ(Client::Connect({.address = ""}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Client, AListOfReplicasNeedsNumbers) {
  EXPECT_TRUE(Client::Connect({.address = "10.0.0.1:50051,10.0.0.2:50051"}).ok());
  for (const char* address : {"one:50051,two:50051", "10.0.0.1:50051,"}) {
    const absl::Status status = Client::Connect({.address = address}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("a list of replicas needs numbers"));
  }
}

TEST(Client, ATokenGoesToReplicasInPlaintextOnlyIfAllAreOnThisMachine) {
  EXPECT_TRUE(Client::Connect({.address = "127.0.0.1:1,127.0.0.1:2", .token = "t"}).ok());
  EXPECT_FALSE(Client::Connect({.address = "127.0.0.1:1,10.0.0.2:2", .token = "t"}).ok());
}

TEST_F(ClientTest, GetModelTellsWhatIsLoadedAndAccepted) {
  FakeVariationServer server;
  auto model = Connect(server).GetModel();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->model_id, "fake/model@main");
  EXPECT_THAT(model->samplers, ElementsAre("pndm", "ddim"));
  EXPECT_EQ(model->defaults.step_count, 25);
  EXPECT_EQ(model->limits.max_sample_count, 16);
  EXPECT_EQ(model->component_sha256.at("unet"), "abc");
  EXPECT_TRUE(model->reproducible);
}

TEST_F(ClientTest, GetServerStatusTellsTheLoad) {
  FakeVariationServer server;
  auto status = Connect(server).GetServerStatus();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->state, ServerState::kServing);
  EXPECT_EQ(status->samples_waiting, 3);
  EXPECT_EQ(status->predicted_wait, absl::Seconds(12));
  EXPECT_EQ(status->step_costs.at(8), absl::Milliseconds(250));
}

TEST_F(ClientTest, CheckHealthFollowsTheServer) {
  FakeVariationServer server;
  const Client client = Connect(server);
  server.SetServing(true);
  EXPECT_EQ(*client.CheckHealth(), ServingStatus::kServing);
  server.SetServing(false);
  EXPECT_EQ(*client.CheckHealth(), ServingStatus::kNotServing);
  EXPECT_EQ(client.CheckHealth("no.such.Service").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace image_variations::client
