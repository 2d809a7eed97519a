// The service's contract answered in this process, on a unix socket, as a test tells it to.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"

namespace image_variations::client {

// How the fake answers StreamVariations when it does not refuse: admitted, progress 0, half and
// all, the variations from last to first, completed.
struct FakeBehaviour {
  int64_t drawn_seed = 7;  // of requests without one
  std::function<std::string(int index)> make_image = [](int index) {
    return "image " + std::to_string(index);
  };
  std::map<int, imagevariations::v1::Variation::Outcome> outcomes = {};  // absent: generated
  std::optional<int> variations_before_breaking = {};  // then the call ends with UNAVAILABLE
  std::optional<int> missing_variation = {};
  bool send_completed = true;
  bool hang_when_admitted = false;  // until the call is cancelled
  int calls_per_connection = 0;     // at a time; 0: any number
};

// Thread-safe. Behaviour is set before the first call.
class FakeVariationServer final : public imagevariations::v1::VariationService::Service {
 public:
  explicit FakeVariationServer(FakeBehaviour = {});
  ~FakeVariationServer() override;

  const std::string& address() const { return address_; }
  // Refusals are used up, one by each call, before anything succeeds.
  void RefuseNext(grpc::Status);
  void SetServing(bool serving);
  std::vector<imagevariations::v1::StreamVariationsRequest> calls() const;
  // True once a hanging call saw that its client has gone.
  bool WaitUntilCancelled(absl::Duration timeout) const {
    return cancelled_.WaitForNotificationWithTimeout(timeout);
  }

  grpc::Status StreamVariations(
      grpc::ServerContext*, const imagevariations::v1::StreamVariationsRequest*,
      grpc::ServerWriter<imagevariations::v1::StreamVariationsResponse>*) override;
  grpc::Status GetModel(grpc::ServerContext*, const imagevariations::v1::GetModelRequest*,
                        imagevariations::v1::GetModelResponse*) override;
  grpc::Status GetServerStatus(grpc::ServerContext*,
                               const imagevariations::v1::GetServerStatusRequest*,
                               imagevariations::v1::GetServerStatusResponse*) override;

 private:
  std::optional<grpc::Status> Note(const imagevariations::v1::StreamVariationsRequest&)
      ABSL_LOCKS_EXCLUDED(mutex_);
  imagevariations::v1::Variation MakeVariation(int index, int64_t seed) const;

  const FakeBehaviour behaviour_;
  std::string folder_ = {};
  std::string address_ = {};
  std::unique_ptr<grpc::Server> server_;
  absl::Notification cancelled_;
  mutable absl::Mutex mutex_;
  std::deque<grpc::Status> refusals_ ABSL_GUARDED_BY(mutex_);
  std::vector<imagevariations::v1::StreamVariationsRequest> calls_ ABSL_GUARDED_BY(mutex_);
};

// A refusal with ErrorInfo and, if a time is given, RetryInfo.
grpc::Status Refusal(grpc::StatusCode, const std::string& message, const std::string& reason,
                     std::optional<absl::Duration> retry_after = {});
// INVALID_ARGUMENT with ErrorInfo and BadRequest.
grpc::Status FieldRefusal(const std::string& message, const std::string& field);

}  // namespace image_variations::client
