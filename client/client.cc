#include "client/client.h"

#include <algorithm>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/conversion.h"
#include "client/retry.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"

namespace image_variations::client {

struct Client::Connection {
  ConnectOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::VariationService::Stub> variations;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

namespace {

constexpr absl::Duration kCancelPollInterval = absl::Milliseconds(100);

bool IsSet(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(); }

void SetDeadline(absl::Time deadline, grpc::ClientContext& context) {
  if (deadline < absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
}

// RFC 4122, version 4.
std::string NewUuid() {
  absl::BitGen random;
  const auto high = absl::Uniform<uint64_t>(random);
  const auto low = absl::Uniform<uint64_t>(random);
  return absl::StrFormat("%08x-%04x-4%03x-%04x-%012x", high >> 32, high >> 16 & 0xffff,
                         high & 0xfff, (low >> 48 & 0x3fff) | 0x8000, low & 0xffff'ffff'ffff);
}

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

// What one attempt has brought so far.
struct Received {
  VariationResult result;
  bool completed = false;
};

void Take(pb::StreamVariationsResponse&& event, const VaryEvents& events, Received& received) {
  switch (event.event_case()) {
    case pb::StreamVariationsResponse::kAdmitted:
      if (events.on_admitted) events.on_admitted(FromProto(event.admitted()));
      break;
    case pb::StreamVariationsResponse::kProgress:
      if (events.on_progress) events.on_progress(FromProto(event.progress()));
      break;
    case pb::StreamVariationsResponse::kVariation:
      received.result.variations.push_back(FromProto(std::move(*event.mutable_variation())));
      if (events.on_variation) events.on_variation(received.result.variations.back());
      break;
    case pb::StreamVariationsResponse::kCompleted:
      received.result.parameters = FromProto(event.completed().parameters());
      received.result.metrics = FromProto(event.completed().metrics());
      received.completed = true;
      break;
    default:
      break;  // a newer server's event
  }
}

absl::Status CheckWhole(Received& received, int sample_count) {
  if (!received.completed) {
    return absl::InternalError("the server ended its reply without saying that it is complete");
  }
  auto& variations = received.result.variations;
  std::sort(variations.begin(), variations.end(),
            [](const Variation& a, const Variation& b) { return a.index < b.index; });
  for (int i = 0; i < sample_count; ++i) {
    const size_t position = static_cast<size_t>(i);
    if (position >= variations.size() || variations[position].index != i) {
      return absl::InternalError(absl::StrCat("the server's reply has no variation ", i));
    }
  }
  return absl::OkStatus();
}

absl::Status RunAttempt(pb::VariationService::Stub& stub,
                        const pb::StreamVariationsRequest& request, absl::Time deadline,
                        const VaryEvents& events, Received& received) {
  StreamingAttempt attempt(stub, request, deadline, events.cancelled);
  pb::StreamVariationsResponse event;
  while (attempt.Read(event)) Take(std::move(event), events, received);
  if (absl::Status status = attempt.Finish(); !status.ok()) return status;
  return CheckWhole(received, std::max(1, request.generation().sample_count()));
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
  if (options.address.empty()) return absl::InvalidArgumentError("the server's address is empty");
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(options.max_reply_bytes);
  auto connection = std::make_unique<Connection>();
  connection->channel =
      grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);
  connection->variations = pb::VariationService::NewStub(connection->channel);
  connection->health = grpc::health::v1::Health::NewStub(connection->channel);
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
  if (request.request_id.empty()) request.request_id = NewUuid();
  pb::StreamVariationsRequest proto;
  proto.set_progress(static_cast<bool>(events.on_progress));
  *proto.mutable_generation() = ToProto(std::move(request));

  absl::BitGen random;
  for (int attempt = 1;; ++attempt) {
    if (IsSet(events.cancelled)) return absl::CancelledError("cancelled by the caller");
    Received received;
    const absl::Status status =
        RunAttempt(*connection_->variations, proto, deadline, events, received);
    if (status.ok()) return std::move(received.result);
    if (!received.result.variations.empty()) return status;
    const auto wait = WaitBeforeRetry(options.retry, status, attempt, deadline - options.now(),
                                      absl::Uniform(random, 0.0, 1.0));
    if (!wait) return status;
    if (events.on_retry) events.on_retry({status, *wait, attempt + 1});
    SleepUnlessCancelled(options, *wait, events.cancelled);
  }
}

absl::StatusOr<ModelDescription> Client::GetModel(absl::Time deadline) const {
  auto response = CallOnce(*connection_->variations, deadline, pb::GetModelRequest(),
                           &pb::VariationService::Stub::GetModel);
  if (!response.ok()) return response.status();
  return FromProto(*response);
}

absl::StatusOr<ServerStatus> Client::GetServerStatus(absl::Time deadline) const {
  auto response = CallOnce(*connection_->variations, deadline, pb::GetServerStatusRequest(),
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
