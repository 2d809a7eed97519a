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
              .on_preview = std::move(callbacks.on_preview),
              .on_variation = std::move(callbacks.on_variation)},
      on_end_(std::move(callbacks.on_end)) {}

void RunningCall::OnReadDone(bool ok) {
  if (!ok) return;  // OnDone follows
  reply_.Take(std::move(event_), events_);
  StartRead(&event_);
}

void RunningCall::OnDone(const grpc::Status& status) {
  const auto on_end = std::move(on_end_);
  const int sample_count = std::max(1, request_.generation().sample_count());
  absl::StatusOr<VariationResult> result =
      status.ok() ? std::move(reply_).Finish(sample_count) : FromGrpc(status);
  // Who hears of the end may destroy the Client and leave the program: by then the call, which
  // holds its channel, is gone.
  std::shared_ptr<RunningCall> self = std::move(self_);
  self.reset();
  if (on_end) on_end(std::move(result));
}

}  // namespace image_variations::client
