#include "tests/server/test_server.h"

#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/proto_buffer_writer.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

ModelRunnerFactory FakeRunner(std::function<void(FakeModelRunner&)> set_up) {
  return [set_up = std::move(set_up)]() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
    auto runner = std::make_unique<FakeModelRunner>();
    if (set_up) set_up(*runner);
    return runner;
  };
}

std::vector<ModelRunnerFactory> FakeRunners(const TestServerOptions& options) {
  std::vector<ModelRunnerFactory> factories;
  factories.push_back(FakeRunner(options.set_up_runner));
  for (const auto& set_up : options.set_up_more_runners) factories.push_back(FakeRunner(set_up));
  return factories;
}

AdmissionOptions AdmissionTo(const TestServerOptions& options) {
  AdmissionOptions admission = options.admission;
  admission.devices = 1 + static_cast<int>(options.set_up_more_runners.size());
  return admission;
}

}  // namespace

TestServer::TestServer(TestServerOptions options, bool serves)
    : clock_(options.clock == nullptr ? real_clock_ : *options.clock),
      metrics_(AdmissionTo(options).devices),
      authenticator_(Authenticator::Make(options.authentication, clock_).value()),
      caller_limits_(options.caller_limits),
      gate_(AdmissionTo(options)),
      lifecycle_(gate_),
      ledger_(options.ledger, clock_),
      codecs_(kCodecThreads),
      engines_(options.engine, FakeRunners(options), clock_, lifecycle_, metrics_),
      service_(options.limits, options.engine, clock_, lifecycle_, *authenticator_, caller_limits_,
               gate_, ledger_, codecs_, metrics_),
      listener_(
          Listener::Start(OpenEndpoint(options.listener).value(), options.listener, {&service_})
              .value()),
      channel_(grpc::CreateChannel(listener_->address(), grpc::InsecureChannelCredentials())),
      stub_(imagevariations::v1::VariationService::NewStub(channel_)) {
  lifecycle_.AttachHealth(listener_->health());
  if (!serves) return;
  IV_CHECK(engines_.WaitUntilWarm().ok());
  service_.Serve(engines_);
  lifecycle_.Serve();
}

TestServer::~TestServer() { listener_->Shutdown(absl::ZeroDuration()); }

std::string TestServer::Health(const std::string& service) {
  // HealthCheckRequest{string service = 1}, HealthCheckResponse{ServingStatus status = 1}, by hand:
  // the messages' own proto is no part of this project.
  std::string bytes;
  if (!service.empty())
    bytes = "\x0a" + std::string(1, static_cast<char>(service.size())) + service;
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  IV_CHECK(queue.Next(&tag, &ok));
  if (!status.ok()) return status.error_message();
  grpc::Slice answer;
  IV_CHECK(response.DumpToSingleSlice(&answer).ok());
  const std::string_view text(reinterpret_cast<const char*>(answer.begin()), answer.size());
  return text == "\x08\x01" ? "SERVING" : "NOT_SERVING";
}

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace image_variations
