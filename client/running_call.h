// One StreamVariations call without a thread of its own; internal to the client library.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/streamed_reply.h"
#include "grpcpp/grpcpp.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"

namespace image_variations::client {

// Owns itself from Start until gRPC has reported its end.
class RunningCall final
    : public grpc::ClientReadReactor<imagevariations::v1::StreamVariationsResponse> {
 public:
  static std::weak_ptr<RunningCall> Start(imagevariations::v1::VariationService::Stub&,
                                          imagevariations::v1::StreamVariationsRequest,
                                          absl::Time deadline, VaryCallbacks);

  void Cancel() { context_.TryCancel(); }  // any thread

 private:
  RunningCall(imagevariations::v1::StreamVariationsRequest, VaryCallbacks);

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status&) override;

  const imagevariations::v1::StreamVariationsRequest request_;
  const VaryEvents events_;
  std::function<void(absl::StatusOr<VariationResult>)> on_end_;
  grpc::ClientContext context_;
  imagevariations::v1::StreamVariationsResponse event_;
  StreamedReply reply_;
  std::shared_ptr<RunningCall> self_;
};

}  // namespace image_variations::client
