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

// Keeps health, gate and state together. Thread-safe.
class Lifecycle {
 public:
  explicit Lifecycle(AdmissionGate& gate) : gate_(gate) {}

  // A health service to keep; NOT_SERVING from now on. It must live until DetachHealth.
  void AttachHealth(grpc::HealthCheckServiceInterface& health, HealthView = HealthView::kState)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void DetachHealth() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether strangers can reach the server; true until told.
  void SetReachable(bool) ABSL_LOCKS_EXCLUDED(mutex_);
  // The engines are warm: opens the gate.
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

  // Ends the server, whatever its other devices do: a process that was started anew has them all.
  // After the first loss nothing more happens.
  void OnDeviceLost(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);

  ServerState state() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct AttachedHealth {
    grpc::HealthCheckServiceInterface* service;
    HealthView view;
  };

  void ShowHealth() ABSL_LOCKS_EXCLUDED(mutex_);
  // Until the device is lost and everybody heard of it, at most for `time`; whether it is.
  bool WaitForLoss(absl::Duration time) const ABSL_LOCKS_EXCLUDED(mutex_);

  AdmissionGate& gate_;
  mutable absl::Mutex mutex_;
  std::vector<AttachedHealth> healths_ ABSL_GUARDED_BY(mutex_);
  bool is_reachable_ ABSL_GUARDED_BY(mutex_) = true;
  ServerState state_ ABSL_GUARDED_BY(mutex_) = ServerState::kStarting;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_device_lost_ ABSL_GUARDED_BY(mutex_) = false;
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
