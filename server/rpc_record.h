// One rpc from its making to End: counted, and traced.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "pipeline/base/clock.h"
#include "server/metrics.h"
#include "server/rpc_status.h"
#include "server/trace_context.h"

namespace image_variations {

class RpcRecord {
 public:
  // `method` and `type` are literals. Takes over the caller's trace and names it in the reply's
  // metadata.
  RpcRecord(Metrics& metrics, const Clock& clock, grpc::CallbackServerContext& context,
            const char* method, const char* type)
      : metrics_(metrics), clock_(clock), method_(method), type_(type), begin_(clock.Now()) {
    metrics_.OnRpcStarted(method_, type_);
    const auto& metadata = context.client_metadata();
    const auto found = metadata.find(kTraceparent);
    trace_ = ContinueTrace(found == metadata.end()
                               ? absl::string_view()
                               : absl::string_view(found->second.data(), found->second.size()));
    context.AddInitialMetadata(kTraceparent, trace_.ToTraceparent());
  }

  const std::string& trace_id() const { return trace_.trace_id; }

  // A reply, or an event of a stream.
  void OnMessageSent() { metrics_.OnMessageSent(method_, type_); }

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
  TraceContext trace_;
};

}  // namespace image_variations
