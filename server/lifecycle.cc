#include "server/lifecycle.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/base/log.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr absl::Duration kLossInterval = absl::Milliseconds(20);

sigset_t StopSignalSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

void Lifecycle::AttachHealth(grpc::HealthCheckServiceInterface& health, HealthView view) {
  {
    absl::MutexLock lock(&mutex_);
    healths_.push_back({&health, view});
  }
  ShowHealth();
}

void Lifecycle::DetachHealth() {
  absl::MutexLock lock(&mutex_);
  healths_.clear();
}

void Lifecycle::SetReachable(bool is_reachable) {
  {
    absl::MutexLock lock(&mutex_);
    is_reachable_ = is_reachable;
  }
  ShowHealth();
}

void Lifecycle::Serve() {
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != ServerState::kStarting) return;
    state_ = ServerState::kServing;
  }
  gate_.Open();
  ShowHealth();
  Log(Severity::kInfo, "serving");
}

void Lifecycle::RequestStop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_requested_ = true;
  }
  ShowHealth();
}

absl::Status Lifecycle::WaitForStop() {
  const auto is_over = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stop_requested_ || !device_.ok();
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&is_over));
  return device_;
}

bool Lifecycle::Drain(const DrainOptions& options) {
  RequestStop();
  Log(Severity::kInfo, "draining", {{"requests", gate_.requests()}});
  if (WaitForLoss(options.delay)) return false;
  gate_.Close(MakeDrainingError("the server is shutting down"));
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != ServerState::kFailed) state_ = ServerState::kDraining;
  }
  // A device that hangs leaves the gate as it is: now and then somebody has to look at both.
  absl::Duration left = options.timeout;
  while (!gate_.WaitUntilEmpty(std::clamp(left, absl::ZeroDuration(), kLossInterval))) {
    if (!device().ok()) return false;
    left -= kLossInterval;
    if (left <= absl::ZeroDuration()) {
      Log(Severity::kWarning, "requests cut off", {{"requests", gate_.requests()}});
      return false;
    }
  }
  return device().ok();
}

absl::Status Lifecycle::device() const {
  absl::MutexLock lock(&mutex_);
  return device_;
}

ServerState Lifecycle::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

void Lifecycle::OnDeviceLost(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    if (is_device_lost_) return;
    is_device_lost_ = true;
  }
  gate_.Close(MakeError(absl::StatusCode::kUnavailable, reason::kDeviceFailed,
                        absl::StrCat("the device is lost: ", why.message())));
  {
    absl::MutexLock lock(&mutex_);
    state_ = ServerState::kFailed;
  }
  ShowHealth();
  Log(Severity::kError, "device lost", {{"why", why.message()}});
  absl::MutexLock lock(&mutex_);
  device_ = why;
}

bool Lifecycle::WaitForLoss(absl::Duration time) const {
  const auto is_lost = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !device_.ok(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&is_lost), time);
}

// Under the lock from end to end: of two changes the later one is told last. gRPC's health service
// only queues what its watchers hear.
void Lifecycle::ShowHealth() {
  absl::MutexLock lock(&mutex_);
  const bool takes_requests = state_ == ServerState::kServing && !stop_requested_;
  for (const AttachedHealth& health : healths_) {
    const bool serving = takes_requests && (health.view == HealthView::kState || is_reachable_);
    health.service->SetServingStatus("", serving);
    health.service->SetServingStatus(imagevariations::v1::VariationService::service_full_name(),
                                     serving);
  }
}

StopSignals::StopSignals(std::function<void()> on_stop) {
  const sigset_t signals = StopSignalSet();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([this, signals, on_stop = std::move(on_stop)] {
    for (bool is_first = true;; is_first = false) {
      int signal = 0;
      sigwait(&signals, &signal);
      if (closing_) return;
      if (!is_first) _exit(128 + signal);
      on_stop();
    }
  });
}

StopSignals::~StopSignals() {
  closing_ = true;
  // It is blocked everywhere, and ends that thread's sigwait.
  pthread_kill(thread_.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  thread_.join();
}

}  // namespace image_variations
