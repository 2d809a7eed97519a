// Previews on their way to readers, through real gRPC: in time or not at all.
#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "pipeline/image/codec.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::ElementsAre;

v1::StreamVariationsRequest PreviewRequest(int samples, int steps, int interval, int max_size = 0) {
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(samples, steps);
  request.mutable_preview()->set_interval_steps(interval);
  request.mutable_preview()->set_max_size(max_size);
  return request;
}

// Stops the engine before chosen UNet calls after the warm-up, the first of which is 1. Calls take
// the same time whatever their rows, so that all samples of a request are in each.
struct PacedEngine {
  SimulatedClock clock{absl::Now()};
  std::atomic<bool> is_armed = false;
  std::atomic<int> calls = 0;
  std::function<void(int call)> before = [](int) {};

  TestServerOptions Options(RequestLimits limits = {}) {
    return {.limits = limits,
            .engine = {.safety = SafetyMode::kOff},
            .clock = &clock,
            .set_up_runner = [this](FakeModelRunner& runner) {
              runner.on_call = [this](absl::string_view verb, int) {
                if (verb != "Denoise") return;
                clock.Advance(absl::Milliseconds(1));
                if (is_armed) before(++calls);
              };
            }};
  }
};

TEST(Previews, ComeEverySoManyStepsSmallAndAsJpeg) {
  PacedEngine engine;
  std::atomic<size_t> read = 0;
  // Slow enough to lose none: the fifth step waits for the preview of the fourth.
  engine.before = [&](int call) { Eventually([&] { return read >= (call - 1) / 4u; }); };
  TestServer server(engine.Options());
  engine.is_armed = true;
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, PreviewRequest(1, 9, 4, 4));
  v1::StreamVariationsResponse event;
  std::vector<int> steps;
  while (reader->Read(&event)) {
    if (!event.has_preview()) continue;
    EXPECT_EQ(event.preview().index(), 0);
    EXPECT_EQ(event.preview().mime_type(), "image/jpeg");
    const Image image = DecodeImage(event.preview().image(), {}).value();
    EXPECT_EQ(image.width, 4);
    EXPECT_EQ(image.rgb[0], event.preview().step());  // what FakeModelRunner draws
    steps.push_back(event.preview().step());
    ++read;
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(steps, ElementsAre(4, 8));
  ExpectIdle(server);
}

// Reads until every sample had a preview of `last_step`: all previews, by sample.
std::map<int, std::vector<int>> ReadUntil(grpc::ClientReader<v1::StreamVariationsResponse>& reader,
                                          int samples, int last_step) {
  std::map<int, std::vector<int>> steps;
  int up_to_date = 0;
  v1::StreamVariationsResponse event;
  while (up_to_date < samples && reader.Read(&event)) {
    if (!event.has_preview()) continue;
    steps[event.preview().index()].push_back(event.preview().step());
    up_to_date += event.preview().step() == last_step;
  }
  return steps;
}

TEST(Previews, WhereCodecThreadsAreBehindOneWaitsForEachSampleTheLatest) {
  constexpr int kSamples = 3;
  PacedEngine engine;
  absl::Notification is_begun, go, is_far, finish, release_codecs;
  engine.before = [&](int call) {
    if (call == 2) {
      is_begun.Notify();
      go.WaitForNotification();
    } else if (call == 200) {
      is_far.Notify();
      finish.WaitForNotification();
    }
  };
  TestServer server(engine.Options());
  engine.is_armed = true;
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, PreviewRequest(kSamples, 210, 10));
  is_begun.WaitForNotification();
  for (int i = 0; i < TestServer::kCodecThreads; ++i) {
    server.codecs().Run([&] { release_codecs.WaitForNotification(); });
  }
  go.Notify();
  is_far.WaitForNotification();
  release_codecs.Notify();
  const auto steps = ReadUntil(*reader, kSamples, 190);
  EXPECT_EQ(steps.size(), kSamples);
  for (const auto& [sample, heard] : steps) EXPECT_THAT(heard, ElementsAre(190)) << sample;
  finish.Notify();
  v1::StreamVariationsResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST(Previews, AReaderThatComesLateGetsTheLatestOfEachSampleNotABacklog) {
  constexpr int kSamples = 8;
  constexpr int kSteps = 400;
  PacedEngine engine;
  absl::Notification is_far, finish;
  TestServer* running = nullptr;
  engine.before = [&](int call) {
    // What was drawn is on its way before more is.
    absl::Notification is_drawn;
    running->codecs().Run([&] { is_drawn.Notify(); });
    is_drawn.WaitForNotification();
    if (call < kSteps) return;
    is_far.Notify();
    finish.WaitForNotification();
  };
  TestServer server(engine.Options({.max_step_count = kSteps}));
  running = &server;
  engine.is_armed = true;
  grpc::ChannelArguments little_memory;
  little_memory.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  little_memory.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 10);
  const auto stub = v1::VariationService::NewStub(grpc::CreateCustomChannel(
      server.address(), grpc::InsecureChannelCredentials(), little_memory));
  grpc::ClientContext context;
  const auto reader = stub->StreamVariations(&context, PreviewRequest(kSamples, kSteps, 1));
  is_far.WaitForNotification();
  const auto steps = ReadUntil(*reader, kSamples, kSteps - 1);
  size_t heard = 0;
  for (const auto& [sample, of_sample] : steps) {
    heard += of_sample.size();
    EXPECT_TRUE(std::ranges::is_sorted(of_sample)) << sample;
    EXPECT_EQ(of_sample.back(), kSteps - 1) << sample;
  }
  // Beside those that the connection holds, some 100 kB: far fewer than there were.
  EXPECT_GE(heard, size_t{kSamples});
  EXPECT_LE(heard, size_t{kSamples * kSteps / 4});
  finish.Notify();
  v1::StreamVariationsResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  ExpectIdle(server);
}

TEST(Previews, WhoDoesNotAskGetsNone) {
  TestServer server({.engine = {.safety = SafetyMode::kOff}});
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(1, 9);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  while (reader->Read(&event)) EXPECT_FALSE(event.has_preview());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST(Previews, AreRefusedByNameWhereAPictureMustBeChecked) {
  TestServer server;
  grpc::ClientContext context;
  const grpc::Status status =
      server.stub().StreamVariations(&context, PreviewRequest(1, 4, 1))->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields, ElementsAre("preview"));
}

}  // namespace
}  // namespace image_variations
