// The server as its surroundings see it: starting -> serving -> draining -> stopped, or failed.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/health_check_service_interface.h"
#include "pipeline/engine/engine_observer.h"
#include "server/admission.h"

namespace image_variations {

enum class ServerState { kStarting, kServing, kDraining, kFailed };

struct DrainOptions {
  // How long to take new requests after the stop was asked for, already NOT_SERVING: until load
  // balancers have noticed (Kubernetes removes endpoints while it sends SIGTERM).
  absl::Duration delay = absl::ZeroDuration();
  absl::Duration timeout = absl::Minutes(5);  // for running requests
};

// What a health service tells.
enum class HealthView {
  kState,      // serving: requests are taken
  kReadiness,  // and strangers reach the port where they come in
};

// Keeps health, gate and state together. Watches the engine for the loss of its device and passes
// on to `observer` what it hears. Thread-safe.
class Lifecycle final : public EngineObserver {
 public:
  Lifecycle(AdmissionGate& gate, EngineObserver& observer) : gate_(gate), observer_(observer) {}

  // A health service to keep; NOT_SERVING from now on. It must live until DetachHealth.
  void AttachHealth(grpc::HealthCheckServiceInterface& health, HealthView = HealthView::kState)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void DetachHealth() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether strangers can reach the server; true until told.
  void SetReachable(bool) ABSL_LOCKS_EXCLUDED(mutex_);
  // The engine is warm: opens the gate.
  void Serve() ABSL_LOCKS_EXCLUDED(mutex_);
  // Asks for the end; returns at once.
  void RequestStop() ABSL_LOCKS_EXCLUDED(mutex_);
  // Until a stop is asked for or the device is lost; OK or why.
  absl::Status WaitForStop() ABSL_LOCKS_EXCLUDED(mutex_);
  // Refuses new requests, lets running ones finish. False: some still ran after the timeout, or the
  // device was lost, at which it returns.
  bool Drain(const DrainOptions&) ABSL_LOCKS_EXCLUDED(mutex_);
  // OK, or why the device is lost.
  absl::Status device() const ABSL_LOCKS_EXCLUDED(mutex_);

  ServerState state() const ABSL_LOCKS_EXCLUDED(mutex_);

  void OnTick(const TickReport& report) override { observer_.OnTick(report); }
  void OnSampleEnd(SampleOutcome outcome, int unet_rows) override {
    observer_.OnSampleEnd(outcome, unet_rows);
  }
  void OnOutOfMemory(int how_many_failed) override { observer_.OnOutOfMemory(how_many_failed); }
  void OnDeviceLost(const absl::Status& why) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct AttachedHealth {
    grpc::HealthCheckServiceInterface* service;
    HealthView view;
  };

  void ShowHealth() ABSL_LOCKS_EXCLUDED(mutex_);
  // Until the device is lost and everybody heard of it, at most for `time`; whether it is.
  bool WaitForLoss(absl::Duration time) const ABSL_LOCKS_EXCLUDED(mutex_);

  AdmissionGate& gate_;
  EngineObserver& observer_;
  mutable absl::Mutex mutex_;
  std::vector<AttachedHealth> healths_ ABSL_GUARDED_BY(mutex_);
  bool is_reachable_ ABSL_GUARDED_BY(mutex_) = true;
  ServerState state_ ABSL_GUARDED_BY(mutex_) = ServerState::kStarting;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status device_ ABSL_GUARDED_BY(mutex_);
};

// SIGTERM and SIGINT: the first calls `on_stop` on a thread of its own, the second ends the process
// at once. Make it before any other thread: it blocks both signals for its thread and later ones.
class StopSignals {
 public:
  explicit StopSignals(std::function<void()> on_stop);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  std::atomic<bool> closing_ = false;
  std::thread thread_;
};

}  // namespace image_variations
