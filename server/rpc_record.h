// Counts one rpc from its making to End.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/support/status.h"
#include "pipeline/base/clock.h"
#include "server/metrics.h"
#include "server/rpc_status.h"

namespace image_variations {

class RpcRecord {
 public:
  // `method` and `type` are literals.
  RpcRecord(Metrics& metrics, const Clock& clock, const char* method, const char* type)
      : metrics_(metrics), clock_(clock), method_(method), type_(type), begin_(clock.Now()) {
    metrics_.OnRpcStarted(method_, type_);
  }

  // The status for the wire.
  grpc::Status End(const absl::Status& status) {
    metrics_.OnRpcHandled(method_, type_, status, clock_.Now() - begin_);
    return ToGrpcStatus(status);
  }

 private:
  Metrics& metrics_;
  const Clock& clock_;
  const char* const method_;
  const char* const type_;
  const absl::Time begin_;
};

}  // namespace image_variations
