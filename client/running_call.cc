#include "client/running_call.h"

#include <algorithm>
#include <utility>

#include "client/conversion.h"

namespace image_variations::client {

std::weak_ptr<RunningCall> RunningCall::Start(pb::VariationService::Stub& stub,
                                              pb::StreamVariationsRequest request,
                                              absl::Time deadline, VaryCallbacks callbacks) {
  const std::shared_ptr<RunningCall> call(
      new RunningCall(std::move(request), std::move(callbacks)));
  call->self_ = call;
  SetDeadline(deadline, call->context_);
  stub.async()->StreamVariations(&call->context_, &call->request_, call.get());
  call->StartRead(&call->event_);
  call->StartCall();
  return call;
}

RunningCall::RunningCall(pb::StreamVariationsRequest request, VaryCallbacks callbacks)
    : request_(std::move(request)),
      events_{.on_admitted = std::move(callbacks.on_admitted),
              .on_progress = std::move(callbacks.on_progress),
              .on_variation = std::move(callbacks.on_variation)},
      on_end_(std::move(callbacks.on_end)) {}

void RunningCall::OnReadDone(bool ok) {
  if (!ok) return;  // OnDone follows
  reply_.Take(std::move(event_), events_);
  StartRead(&event_);
}

void RunningCall::OnDone(const grpc::Status& status) {
  const std::shared_ptr<RunningCall> until_returned = std::move(self_);
  if (!on_end_) return;
  if (status.ok()) {
    on_end_(std::move(reply_).Finish(std::max(1, request_.generation().sample_count())));
  } else {
    on_end_(FromGrpc(status));
  }
}

}  // namespace image_variations::client
