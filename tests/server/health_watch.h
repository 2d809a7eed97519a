// A health watch of a server program.
#pragma once

#include <memory>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "pipeline/base/status_macros.h"
#include "tests/server/fake_server_process.h"

namespace image_variations {

// Watches a server's health until the stream ends.
class HealthWatch {
 public:
  explicit HealthWatch(const FakeServerProcess& server)
      : stub_(grpc::health::v1::Health::NewStub(server.NewChannel())),
        reader_(stub_->Watch(&context_, grpc::health::v1::HealthCheckRequest())) {
    grpc::health::v1::HealthCheckResponse response;
    IV_CHECK(reader_->Read(&response));
    IV_CHECK(response.status() == grpc::health::v1::HealthCheckResponse::SERVING);
  }
  ~HealthWatch() {
    context_.TryCancel();
    reader_->Finish();
  }

  // When it stopped to be SERVING.
  absl::Time WaitForEnd() {
    grpc::health::v1::HealthCheckResponse response;
    while (reader_->Read(&response) &&
           response.status() == grpc::health::v1::HealthCheckResponse::SERVING) {
    }
    return absl::Now();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<grpc::health::v1::HealthCheckResponse>> reader_;
};

}  // namespace image_variations
