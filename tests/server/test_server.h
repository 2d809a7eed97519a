// The whole server in this process: real gRPC on a free port, real engine and its thread, with
// FakeModelRunner for the networks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/base/clock.h"
#include "server/admission.h"
#include "server/authenticator.h"
#include "server/caller_limits.h"
#include "server/engine_pool.h"
#include "server/lifecycle.h"
#include "server/listener.h"
#include "server/metrics.h"
#include "server/request_ledger.h"
#include "server/variations_service.h"
#include "server/worker_pool.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {

struct TestServerOptions {
  RequestLimits limits = {};
  EngineOptions engine = {};
  AdmissionOptions admission = {};
  RequestLedgerOptions ledger = {};
  ListenerOptions listener = {.address = "127.0.0.1:0"};
  AuthenticatorOptions authentication = {};
  CallerLimitOptions caller_limits = {};
  const Clock* clock = nullptr;                              // nullptr: the real one
  std::function<void(FakeModelRunner&)> set_up_runner = {};  // on the engine thread, before warm-up
  // One device more for each; `set_up_runner` is the first one's.
  std::vector<std::function<void(FakeModelRunner&)>> set_up_more_runners = {};
};

class TestServer {
 public:
  using Stub = imagevariations::v1::VariationService::Stub;
  static constexpr int kCodecThreads = 2;

  // Serves when it returns, unless `serves` is false: then it stays as a server that still loads.
  explicit TestServer(TestServerOptions options = {}, bool serves = true);
  ~TestServer();

  const std::string& address() const { return listener_->address(); }
  Stub& stub() { return *stub_; }  // in plaintext
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  AdmissionGate& gate() { return gate_; }
  Lifecycle& lifecycle() { return lifecycle_; }
  Metrics& metrics() { return metrics_; }
  WorkerPool& codecs() { return codecs_; }
  Engine& engine(int device = 0) { return engines_.at(device); }

  // "SERVING" or "NOT_SERVING", as grpc.health.v1 says of `service`.
  std::string Health(const std::string& service = "");

 private:
  const RealClock real_clock_;
  const Clock& clock_;
  Metrics metrics_;
  const std::unique_ptr<Authenticator> authenticator_;
  CallerLimits caller_limits_;
  AdmissionGate gate_;
  Lifecycle lifecycle_;
  RequestLedger ledger_;
  WorkerPool codecs_;
  EnginePool engines_;
  VariationsService service_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Stub> stub_;
};

// Until `condition` holds; false when it still does not after a long time.
bool Eventually(const std::function<bool()>& condition);

}  // namespace image_variations
