#include "client/client.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "client/channel.h"
#include "client/conversion.h"
#include "client/request_id.h"
#include "client/retry.h"
#include "client/running_call.h"
#include "client/streamed_reply.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"

namespace image_variations::client {

struct Client::Connection {
  // Calls take the connections in turn.
  pb::VariationService::Stub& NextStub() const {
    return *variations[next.fetch_add(1, std::memory_order_relaxed) % variations.size()];
  }

  ConnectOptions options;
  std::vector<std::unique_ptr<pb::VariationService::Stub>> variations;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
  mutable std::atomic<size_t> next = 0;
};

namespace {

constexpr absl::Duration kCancelPollInterval = absl::Milliseconds(100);

bool IsSet(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(); }

// One attempt at StreamVariations. Asynchronous underneath, with one operation outstanding at a
// time, because a blocking Read could not watch the cancel flag.
class StreamingAttempt {
 public:
  StreamingAttempt(pb::VariationService::Stub& stub, const pb::StreamVariationsRequest& request,
                   absl::Time deadline, const std::atomic<bool>* cancelled)
      : cancelled_(cancelled) {
    SetDeadline(deadline, context_);
    reader_ = stub.AsyncStreamVariations(&context_, request, &queue_, this);
    started_ = WaitForOperation();
  }

  ~StreamingAttempt() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  StreamingAttempt(const StreamingAttempt&) = delete;
  StreamingAttempt& operator=(const StreamingAttempt&) = delete;

  // The next event; false at the stream's end.
  bool Read(pb::StreamVariationsResponse& event) {
    if (!started_) return false;
    if (IsSet(cancelled_)) context_.TryCancel();  // events may never leave a pause to see it in
    reader_->Read(&event, this);
    return WaitForOperation();
  }

  absl::Status Finish() {
    grpc::Status status;
    reader_->Finish(&status, this);
    WaitForOperation();
    if (!status.ok() && IsSet(cancelled_)) return absl::CancelledError("cancelled by the caller");
    return FromGrpc(status);
  }

 private:
  // gRPC's "ok" of the operation. A cancelled call ends its operations by itself.
  bool WaitForOperation() {
    void* tag = nullptr;
    bool ok = false;
    while (
        queue_.AsyncNext(&tag, &ok, gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), PollInterval())) ==
        grpc::CompletionQueue::TIMEOUT) {
      if (IsSet(cancelled_)) context_.TryCancel();
    }
    return ok;
  }

  static gpr_timespec PollInterval() {
    return gpr_time_from_millis(absl::ToInt64Milliseconds(kCancelPollInterval), GPR_TIMESPAN);
  }

  const std::atomic<bool>* cancelled_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReader<pb::StreamVariationsResponse>> reader_;
  bool started_ = false;
};

absl::StatusOr<VariationResult> RunAttempt(pb::VariationService::Stub& stub,
                                           const pb::StreamVariationsRequest& request,
                                           absl::Time deadline, const VaryEvents& events,
                                           StreamedReply& reply) {
  StreamingAttempt attempt(stub, request, deadline, events.cancelled);
  pb::StreamVariationsResponse event;
  while (attempt.Read(event)) reply.Take(std::move(event), events);
  if (absl::Status status = attempt.Finish(); !status.ok()) return status;
  return std::move(reply).Finish(std::max(1, request.generation().sample_count()));
}

// What both ways to call send; draws a missing request id.
pb::StreamVariationsRequest MakeStreamRequest(VariationRequest&& request, bool progress,
                                              bool previews) {
  if (request.request_id.empty()) request.request_id = NewRequestId();
  pb::StreamVariationsRequest proto;
  proto.set_progress(progress);
  if (previews) {
    proto.mutable_preview()->set_interval_steps(request.preview_interval_steps);
    proto.mutable_preview()->set_max_size(request.preview_max_size);
  }
  *proto.mutable_generation() = ToProto(std::move(request));
  return proto;
}

void SleepUnlessCancelled(const ConnectOptions& options, absl::Duration wait,
                          const std::atomic<bool>* cancelled) {
  const absl::Time end = options.now() + wait;
  for (absl::Time now = options.now(); now < end && !IsSet(cancelled); now = options.now()) {
    options.sleep(std::min(end - now, kCancelPollInterval));
  }
}

template <typename Response, typename Request, typename Stub>
absl::StatusOr<Response> CallOnce(Stub& stub, absl::Time deadline, const Request& request,
                                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Response*)) {
  grpc::ClientContext context;
  SetDeadline(deadline, context);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

}  // namespace

absl::StatusOr<Client> Client::Connect(ConnectOptions options) {
  auto connection = std::make_unique<Connection>();
  for (int i = 0; i < std::max(1, options.connections); ++i) {
    const absl::StatusOr<std::shared_ptr<grpc::Channel>> made = MakeChannel(options);
    if (!made.ok()) return made.status();
    const std::shared_ptr<grpc::Channel>& channel = *made;
    connection->variations.push_back(pb::VariationService::NewStub(channel));
    if (i == 0) connection->health = grpc::health::v1::Health::NewStub(channel);
  }
  connection->options = std::move(options);
  return Client(std::move(connection));
}

Client::Client(std::unique_ptr<const Connection> connection) : connection_(std::move(connection)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

absl::StatusOr<VariationResult> Client::Vary(VariationRequest request,
                                             const VaryEvents& events) const {
  const ConnectOptions& options = connection_->options;
  const absl::Time deadline = request.deadline;
  const pb::StreamVariationsRequest proto =
      MakeStreamRequest(std::move(request), static_cast<bool>(events.on_progress),
                        static_cast<bool>(events.on_preview));

  absl::BitGen random;
  for (int attempt = 1;; ++attempt) {
    if (IsSet(events.cancelled)) return absl::CancelledError("cancelled by the caller");
    StreamedReply reply;
    absl::StatusOr<VariationResult> result =
        RunAttempt(connection_->NextStub(), proto, deadline, events, reply);
    if (result.ok() || reply.has_variations()) return result;
    const auto wait = WaitBeforeRetry(options.retry, result.status(), attempt,
                                      deadline - options.now(), absl::Uniform(random, 0.0, 1.0));
    if (!wait) return result;
    if (events.on_retry) events.on_retry({result.status(), *wait, attempt + 1});
    SleepUnlessCancelled(options, *wait, events.cancelled);
  }
}

StartedCall Client::StartVary(VariationRequest request, VaryCallbacks callbacks) const {
  const absl::Time deadline = request.deadline;
  pb::StreamVariationsRequest proto =
      MakeStreamRequest(std::move(request), static_cast<bool>(callbacks.on_progress),
                        static_cast<bool>(callbacks.on_preview));
  return StartedCall(RunningCall::Start(connection_->NextStub(), std::move(proto), deadline,
                                        std::move(callbacks)));
}

void StartedCall::Cancel() const {
  if (const std::shared_ptr<RunningCall> call = call_.lock()) call->Cancel();
}

absl::StatusOr<ModelDescription> Client::GetModel(absl::Time deadline) const {
  auto response = CallOnce(connection_->NextStub(), deadline, pb::GetModelRequest(),
                           &pb::VariationService::Stub::GetModel);
  if (!response.ok()) return response.status();
  return FromProto(*response);
}

absl::StatusOr<ServerStatus> Client::GetServerStatus(absl::Time deadline) const {
  auto response = CallOnce(connection_->NextStub(), deadline, pb::GetServerStatusRequest(),
                           &pb::VariationService::Stub::GetServerStatus);
  if (!response.ok()) return response.status();
  return FromProto(*response);
}

absl::StatusOr<ServingStatus> Client::CheckHealth(const std::string& service,
                                                  absl::Time deadline) const {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  auto response =
      CallOnce(*connection_->health, deadline, request, &grpc::health::v1::Health::Stub::Check);
  if (!response.ok()) return response.status();
  switch (response->status()) {
    case grpc::health::v1::HealthCheckResponse::SERVING:
      return ServingStatus::kServing;
    case grpc::health::v1::HealthCheckResponse::NOT_SERVING:
      return ServingStatus::kNotServing;
    default:
      return ServingStatus::kUnknown;
  }
}

}  // namespace image_variations::client
