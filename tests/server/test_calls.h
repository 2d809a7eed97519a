// Requests to a TestServer, and what stands in their way.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/image/codec.h"
#include "prometheus/text_serializer.h"
#include "tests/server/error_details.h"
#include "tests/server/test_server.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {

inline std::string Png(int shade = 100) {
  return EncodeImage({8, 8, std::vector<uint8_t>(3 * 8 * 8, static_cast<uint8_t>(shade))}, {})
      .value();
}

inline imagevariations::v1::GenerateVariationsRequest Request(int samples = 1, int steps = 4) {
  imagevariations::v1::GenerateVariationsRequest request;
  request.set_image(Png());
  request.set_sample_count(samples);
  request.set_step_count(steps);
  request.set_sampler("ddim");
  request.set_seed(10);
  return request;
}

struct Reply {
  grpc::Status status;
  imagevariations::v1::GenerateVariationsResponse response;

  ErrorDetails details() const { return DetailsOf(status); }
};

inline Reply Generate(TestServer& server,
                      const imagevariations::v1::GenerateVariationsRequest& request,
                      absl::Time deadline = absl::InfiniteFuture()) {
  grpc::ClientContext context;
  if (deadline != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
  Reply reply;
  reply.status = server.stub().GenerateVariations(&context, request, &reply.response);
  return reply;
}

struct StreamReply {
  grpc::Status status;
  std::vector<imagevariations::v1::StreamVariationsResponse> events;

  ErrorDetails details() const { return DetailsOf(status); }
};

inline StreamReply Listen(TestServer& server,
                          const imagevariations::v1::GenerateVariationsRequest& generation,
                          bool progress = false) {
  imagevariations::v1::StreamVariationsRequest request;
  *request.mutable_generation() = generation;
  request.set_progress(progress);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  StreamReply reply;
  imagevariations::v1::StreamVariationsResponse event;
  while (reader->Read(&event)) reply.events.push_back(event);
  reply.status = reader->Finish();
  return reply;
}

// As a GET of /metrics gives them.
inline std::string MetricsText(TestServer& server) {
  return prometheus::TextSerializer().Serialize(server.metrics().registry()->Collect());
}

// Nothing of any request is left: not in the gate, not in the engine.
inline void ExpectIdle(TestServer& server) {
  EXPECT_TRUE(server.gate().WaitUntilEmpty(absl::Seconds(30)));
  EXPECT_TRUE(Eventually([&] {
    const EngineStatus status = server.engine().status();
    return status.samples_running == 0 && status.samples_waiting == 0;
  }));
}

// Holds the engine in its first UNet call after the warm-up.
struct HeldEngine {
  absl::Notification is_held, release;
  std::atomic<bool> is_armed = false;

  TestServerOptions Options() {
    return {.set_up_runner = [this](FakeModelRunner& runner) {
      runner.on_call = [this](absl::string_view verb, int) {
        if (verb != "Denoise" || !is_armed.exchange(false)) return;
        is_held.Notify();
        release.WaitForNotification();
      };
    }};
  }
};

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

}  // namespace image_variations
