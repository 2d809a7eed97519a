#include "server/variations_service.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "server/admission_request.h"
#include "server/generate_reactors.h"
#include "server/proto_conversion.h"
#include "server/rpc_record.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

constexpr char kUnary[] = "unary";
constexpr char kServerStream[] = "server_stream";

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

absl::StatusOr<ValidRequest> ValidateForOneReply(const RequestValidator& validator,
                                                 const v1::GenerateVariationsRequest& request) {
  ASSIGN_OR_RETURN(ValidRequest valid, validator.Validate(request));
  RETURN_IF_ERROR(validator.CheckReplySize(valid));
  return valid;
}

v1::GetServerStatusResponse::State StateOf(ServerState state) {
  switch (state) {
    case ServerState::kStarting:
      return v1::GetServerStatusResponse::STATE_STARTING;
    case ServerState::kServing:
      return v1::GetServerStatusResponse::STATE_SERVING;
    case ServerState::kDraining:
      return v1::GetServerStatusResponse::STATE_DRAINING;
    case ServerState::kFailed:
      return v1::GetServerStatusResponse::STATE_FAILED;
  }
  return v1::GetServerStatusResponse::STATE_UNSPECIFIED;
}

void SetDevice(const ModelInfo& model, v1::ModelDevice& device) {
  device.set_device(model.device);
  device.set_dtype(model.dtype);
  device.set_fingerprint(model.fingerprint);
  device.set_reproducible(model.reproducible);
}

void SetStatus(const Engine& engine, int max_rows, v1::DeviceStatus& device) {
  const EngineStatus status = engine.status();
  const ModelInfo& model = engine.model();
  const int64_t area = int64_t{model.default_width / model.latent_factor} *
                       (model.default_height / model.latent_factor);
  device.set_device(model.device);
  device.set_rows_running(status.rows_running);
  device.set_samples_running(status.samples_running);
  device.set_samples_waiting(status.samples_waiting);
  *device.mutable_predicted_wait() = ToProto(status.predicted_backlog);
  for (int rows = 1; rows <= max_rows; rows *= 2) {
    v1::StepCost& cost = *device.add_step_costs();
    cost.set_rows(rows);
    *cost.mutable_time() = ToProto(status.cost.unet.Predict(area, rows));
  }
}

// What the response says of all devices.
void SumUp(v1::GetServerStatusResponse& response) {
  *response.mutable_step_costs() = response.devices(0).step_costs();
  const v1::DeviceStatus* soonest = &response.devices(0);
  for (const v1::DeviceStatus& device : response.devices()) {
    response.set_rows_running(response.rows_running() + device.rows_running());
    response.set_samples_waiting(response.samples_waiting() + device.samples_waiting());
    const auto time = [](const v1::DeviceStatus& each) {
      return std::pair(each.predicted_wait().seconds(), each.predicted_wait().nanos());
    };
    if (time(device) < time(*soonest)) soonest = &device;
  }
  *response.mutable_predicted_wait() = soonest->predicted_wait();
}

}  // namespace

VariationsService::VariationsService(RequestLimits limits, EngineOptions engine_options,
                                     const Clock& clock, const Lifecycle& lifecycle,
                                     Authenticator& authenticator, CallerLimits& caller_limits,
                                     AdmissionGate& gate, RequestLedger& ledger, WorkerPool& codecs,
                                     Metrics& metrics)
    : limits_(std::move(limits)),
      engine_options_(std::move(engine_options)),
      clock_(clock),
      lifecycle_(lifecycle),
      authenticator_(authenticator),
      caller_limits_(caller_limits),
      gate_(gate),
      ledger_(ledger),
      codecs_(codecs),
      metrics_(metrics) {}

void VariationsService::Serve(const EnginePool& engines) {
  for (int i = 0; i < engines.size(); ++i) {
    metrics_.SetModel(i, engines.at(i).model(), engines.at(i).status().cost, IV_VERSION);
  }
  ModelInfo model = engines.at(0).model();
  model.has_previews = model.has_previews && engine_options_.safety == SafetyMode::kOff;
  validator_ = std::make_unique<const RequestValidator>(limits_, model);
  calls_ = std::make_unique<const CallContext>(CallContext{
      .clock = clock_,
      .gate = gate_,
      .codecs = codecs_,
      .metrics = metrics_,
      .engines = engines,
      .validator = *validator_,
      .caller_limits = caller_limits_,
      .sandbox = sandbox_,
  });
  serving_ = calls_.get();
}

// Before anything of the request is looked at.
absl::StatusOr<Caller> VariationsService::Identify(const grpc::CallbackServerContext& context,
                                                   absl::string_view trace_id, Right needed) {
  const Presented presented = PresentedBy(context, authenticator_.caller_metadata());
  absl::StatusOr<Caller> caller = authenticator_.Identify(presented, needed);
  if (caller.ok()) return caller;
  Log(Severity::kDebug, "caller refused",
      {{"trace_id", trace_id},
       {"address", presented.address},
       {"reason", ReasonOf(caller.status())},
       {"why", caller.status().message()}});
  if (needed == Right::kGenerate) metrics_.OnRequestRefused(caller.status());
  return caller;
}

void VariationsService::Begin(const CallContext& calls, const Caller& caller,
                              const grpc::CallbackServerContext& context,
                              const v1::GenerateVariationsRequest& request,
                              absl::StatusOr<ValidRequest> valid, VariationsRpc& rpc) {
  const absl::Time deadline = DeadlineOf(context);
  const CallOrigin origin{.caller = caller.name, .trace_id = rpc.trace_id()};
  if (!valid.ok() || valid->validate_only || request.request_id().empty()) {
    const auto call = NewCall(calls, request.image(), deadline, rpc, origin);
    rpc.WhenCancelled([call] { call->Cancel(); });
    call->Start(std::move(valid));
    return;
  }
  absl::StatusOr<RequestLedger::Claim> claim = Join(caller, request, *valid, deadline, rpc);
  if (!claim.ok()) {
    metrics_.OnRequestRefused(claim.status());
    rpc.OnEnd(claim.status());
    return;
  }
  const std::shared_ptr<SharedReply>& work = claim->work;
  // Weak, or pictures that the ledger has given up would stay as long as their slowest reader.
  rpc.WhenCancelled([this, weak = std::weak_ptr(work), deadline, &rpc] {
    if (const auto alive = weak.lock()) {
      alive->Leave(rpc, WhyCancelled(clock_.Now(), deadline));
    }
  });
  if (!claim->is_new) {
    metrics_.OnRequestRepeated();
    Log(Severity::kInfo, "request repeated",
        {{"request_id", request.request_id()},
         {"trace_id", origin.trace_id},
         {"caller", origin.caller}});
    return;
  }
  const auto call = NewCall(calls, work->image(), deadline, *work, origin);
  work->BeginWith([call] { call->Cancel(); });
  call->Start(std::move(valid));
}

absl::StatusOr<RequestLedger::Claim> VariationsService::Join(
    const Caller& caller, const v1::GenerateVariationsRequest& request, const ValidRequest& valid,
    absl::Time deadline, VariationsRpc& rpc) {
  AnswerShare share;
  ASSIGN_OR_RETURN(share.caller, caller_limits_.Enter(caller.name, /*unet_rows=*/0));
  ASSIGN_OR_RETURN(share.bytes,
                   gate_.Hold(AnswerBytesOf(valid, rpc.MostVariations(valid.sample_count))));
  rpc.Keep(std::move(share));
  ASSIGN_OR_RETURN(RequestLedger::Claim claim, ledger_.Join(caller.name, request, deadline, rpc));
  if (claim.is_new) rpc.GiveBackPlace();  // its work takes one of its own
  return claim;
}

std::shared_ptr<GenerateCall> VariationsService::NewCall(const CallContext& calls,
                                                         const std::string& image,
                                                         absl::Time deadline, GenerateReply& reply,
                                                         CallOrigin origin) {
  return std::make_shared<GenerateCall>(calls, JobId{++last_job_}, image, deadline, reply,
                                        std::move(origin));
}

grpc::ServerUnaryReactor* VariationsService::GenerateVariations(
    grpc::CallbackServerContext* context, const v1::GenerateVariationsRequest* request,
    v1::GenerateVariationsResponse* response) {
  auto* reactor = new UnaryReactor(
      RpcRecord(metrics_, clock_, *context, "GenerateVariations", kUnary), answers_, *response);
  const absl::StatusOr<Caller> caller = Identify(*context, reactor->trace_id(), Right::kGenerate);
  if (!caller.ok()) {
    reactor->OnEnd(caller.status());
  } else if (const CallContext* serving = serving_) {
    Begin(*serving, *caller, *context, *request, ValidateForOneReply(serving->validator, *request),
          *reactor);
  } else {
    reactor->OnEnd(gate_.closed());
  }
  return reactor;
}

grpc::ServerWriteReactor<v1::StreamVariationsResponse>* VariationsService::StreamVariations(
    grpc::CallbackServerContext* context, const v1::StreamVariationsRequest* request) {
  auto* reactor =
      new StreamReactor(RpcRecord(metrics_, clock_, *context, "StreamVariations", kServerStream),
                        answers_, codecs_, request->progress(), request->has_preview());
  const absl::StatusOr<Caller> caller = Identify(*context, reactor->trace_id(), Right::kGenerate);
  if (!caller.ok()) {
    reactor->OnEnd(caller.status());
  } else if (const CallContext* serving = serving_) {
    Begin(*serving, *caller, *context, request->generation(), serving->validator.Validate(*request),
          *reactor);
  } else {
    reactor->OnEnd(gate_.closed());
  }
  return reactor;
}

grpc::ServerUnaryReactor* VariationsService::Inspect(
    grpc::CallbackServerContext& context, const char* method,
    absl::FunctionRef<absl::Status()> fill_response) {
  RpcRecord record(metrics_, clock_, context, method, kUnary);
  absl::Status status = Identify(context, record.trace_id(), Right::kInspect).status();
  if (status.ok()) status = fill_response();
  if (status.ok()) record.OnMessageSent();
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(record.End(status));
  return reactor;
}

grpc::ServerUnaryReactor* VariationsService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest* /*request*/,
                                                      v1::GetModelResponse* response) {
  return Inspect(*context, "GetModel", [&] {
    const CallContext* serving = serving_;
    if (serving == nullptr) return gate_.closed();
    Describe(*serving, *response);
    return absl::OkStatus();
  });
}

void VariationsService::Describe(const CallContext& calls, v1::GetModelResponse& response) const {
  const EnginePool& engines = calls.engines;
  const ModelInfo& model = engines.at(0).model();
  response.set_model_id(model.model_id);
  response.set_revision(model.revision);
  response.mutable_component_sha256()->insert(model.component_sha256.begin(),
                                              model.component_sha256.end());
  response.set_device(model.device);
  response.set_dtype(model.dtype);
  for (const SamplerInfo& sampler : calls.validator.samplers()) {
    response.add_samplers(std::string(sampler.name));
  }
  *response.mutable_defaults() = calls.validator.defaults();
  *response.mutable_limits() = calls.validator.limits();
  response.set_safety(engine_options_.safety == SafetyMode::kRequired ? "required" : "off");
  response.set_fingerprint(model.fingerprint);
  bool is_reproducible = true;
  for (int i = 0; i < engines.size(); ++i) {
    is_reproducible = is_reproducible && engines.at(i).model().reproducible;
    SetDevice(engines.at(i).model(), *response.add_devices());
  }
  response.set_reproducible(is_reproducible);
  response.set_server_version(IV_VERSION);
}

grpc::ServerUnaryReactor* VariationsService::GetServerStatus(
    grpc::CallbackServerContext* context, const v1::GetServerStatusRequest* /*request*/,
    v1::GetServerStatusResponse* response) {
  return Inspect(*context, "GetServerStatus", [&] {
    response->set_state(StateOf(lifecycle_.state()));
    if (const CallContext* serving = serving_) {
      for (int i = 0; i < serving->engines.size(); ++i) {
        SetStatus(serving->engines.at(i), engine_options_.batcher.max_rows,
                  *response->add_devices());
      }
      SumUp(*response);
    }
    return absl::OkStatus();
  });
}

}  // namespace image_variations
