#include "server/variations_service.h"

#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "pipeline/base/status_macros.h"
#include "server/proto_conversion.h"
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

// Counts one rpc from its making to End.
class RpcRecord {
 public:
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

// Gathers a call's news into one reply. Deletes itself when gRPC is done with it.
class UnaryReactor final : public grpc::ServerUnaryReactor, public GenerateReply {
 public:
  UnaryReactor(RpcRecord record, v1::GenerateVariationsResponse& response)
      : record_(record), response_(response) {}

  void Start(std::shared_ptr<GenerateCall> call, absl::StatusOr<ValidRequest> request) {
    call_ = std::move(call);
    call_->Start(std::move(request));
  }

  // Places for all variations, so that each is written by its own thread without a lock.
  void OnAdmitted(v1::Admitted, int sample_count) override {
    for (int i = 0; i < sample_count; ++i) response_.add_variations();
  }
  void OnProgress(v1::Progress) override {}
  void OnVariation(v1::Variation variation) override {
    v1::Variation& place = *response_.mutable_variations(variation.index());
    place = std::move(variation);
  }
  void OnEnd(absl::StatusOr<v1::Completed> completed) override {
    if (completed.ok()) {
      *response_.mutable_parameters() = std::move(*completed->mutable_parameters());
      *response_.mutable_metrics() = std::move(*completed->mutable_metrics());
    }
    Finish(record_.End(completed.status()));
  }

  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override { delete this; }

 private:
  RpcRecord record_;
  v1::GenerateVariationsResponse& response_;
  std::shared_ptr<GenerateCall> call_;
};

// Writes a call's news as events, one at a time. Of progress only the latest waits for a slow
// reader; what else can wait is bounded by the request's samples. Deletes itself when gRPC is done.
class StreamReactor final : public grpc::ServerWriteReactor<v1::StreamVariationsResponse>,
                            public GenerateReply {
 public:
  StreamReactor(RpcRecord record, bool wants_progress)
      : record_(record), wants_progress_(wants_progress) {}

  void Start(std::shared_ptr<GenerateCall> call, absl::StatusOr<ValidRequest> request) {
    call_ = std::move(call);
    call_->Start(std::move(request));
  }

  void OnAdmitted(v1::Admitted admitted, int /*sample_count*/) override {
    v1::StreamVariationsResponse event;
    *event.mutable_admitted() = std::move(admitted);
    Write(std::move(event));
  }
  void OnVariation(v1::Variation variation) override {
    v1::StreamVariationsResponse event;
    *event.mutable_variation() = std::move(variation);
    Write(std::move(event));
  }
  void OnProgress(v1::Progress progress) override {
    if (!wants_progress_) return;
    {
      absl::MutexLock lock(&mutex_);
      progress_ = std::move(progress);
    }
    Advance();
  }
  void OnEnd(absl::StatusOr<v1::Completed> completed) override {
    {
      absl::MutexLock lock(&mutex_);
      progress_.reset();
      end_ = completed.status();
      if (completed.ok()) *waiting_.emplace_back().mutable_completed() = *std::move(completed);
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    if (!ok && call_ != nullptr) call_->Cancel();
    {
      absl::MutexLock lock(&mutex_);
      is_writing_ = false;
      is_broken_ = is_broken_ || !ok;
    }
    Advance();
  }
  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override { delete this; }

 private:
  void Write(v1::StreamVariationsResponse event) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      waiting_.push_back(std::move(event));
    }
    Advance();
  }

  // Begins the next write or the end, when none is under way. This may be gone when it returns.
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::optional<absl::Status> end;
    {
      absl::MutexLock lock(&mutex_);
      if (is_writing_) return;
      if (is_broken_) {
        waiting_.clear();
        progress_.reset();
      }
      if (!waiting_.empty()) {
        written_ = std::move(waiting_.front());
        waiting_.pop_front();
      } else if (progress_) {
        *written_.mutable_progress() = *std::exchange(progress_, std::nullopt);
      } else if (end_) {
        end.swap(end_);
      } else {
        return;
      }
      is_writing_ = true;
    }
    if (end) {
      Finish(record_.End(*end));
    } else {
      StartWrite(&written_);
    }
  }

  RpcRecord record_;
  const bool wants_progress_;
  std::shared_ptr<GenerateCall> call_;
  absl::Mutex mutex_;
  std::deque<v1::StreamVariationsResponse> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::Progress> progress_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // known and not yet told
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;          // or ended
  bool is_broken_ ABSL_GUARDED_BY(mutex_) = false;
  v1::StreamVariationsResponse written_;  // gRPC's while is_writing_
};

absl::StatusOr<ValidRequest> ValidateForOneReply(const RequestValidator& validator,
                                                 const v1::GenerateVariationsRequest& request) {
  ASSIGN_OR_RETURN(ValidRequest valid, validator.Validate(request));
  RETURN_IF_ERROR(validator.CheckReplySize(valid));
  return valid;
}

v1::GetServerStatusResponse::State ToProto(ServerState state) {
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

}  // namespace

VariationsService::VariationsService(RequestLimits limits, EngineOptions engine_options,
                                     const Clock& clock, const Lifecycle& lifecycle,
                                     AdmissionGate& gate, WorkerPool& codecs, Metrics& metrics)
    : limits_(std::move(limits)),
      engine_options_(std::move(engine_options)),
      clock_(clock),
      lifecycle_(lifecycle),
      gate_(gate),
      codecs_(codecs),
      metrics_(metrics) {}

void VariationsService::Serve(Engine& engine) {
  metrics_.SetModel(engine.model(), IV_VERSION);
  validator_ = std::make_unique<const RequestValidator>(limits_, engine.model());
  calls_ = std::make_unique<const CallContext>(CallContext{
      .clock = clock_,
      .gate = gate_,
      .codecs = codecs_,
      .metrics = metrics_,
      .engine = engine,
      .validator = *validator_,
      .max_rows = engine_options_.batcher.max_rows,
  });
  serving_ = calls_.get();
}

std::shared_ptr<GenerateCall> VariationsService::NewCall(const CallContext& calls,
                                                         const std::string& image,
                                                         const grpc::CallbackServerContext& context,
                                                         GenerateReply& reply) {
  return std::make_shared<GenerateCall>(calls, JobId{++last_job_}, image, DeadlineOf(context),
                                        reply);
}

grpc::ServerUnaryReactor* VariationsService::GenerateVariations(
    grpc::CallbackServerContext* context, const v1::GenerateVariationsRequest* request,
    v1::GenerateVariationsResponse* response) {
  auto* reactor =
      new UnaryReactor(RpcRecord(metrics_, clock_, "GenerateVariations", kUnary), *response);
  if (const CallContext* serving = serving_) {
    reactor->Start(NewCall(*serving, request->image(), *context, *reactor),
                   ValidateForOneReply(serving->validator, *request));
  } else {
    reactor->OnEnd(gate_.closed());
  }
  return reactor;
}

grpc::ServerWriteReactor<v1::StreamVariationsResponse>* VariationsService::StreamVariations(
    grpc::CallbackServerContext* context, const v1::StreamVariationsRequest* request) {
  auto* reactor = new StreamReactor(RpcRecord(metrics_, clock_, "StreamVariations", kServerStream),
                                    request->progress());
  if (const CallContext* serving = serving_) {
    reactor->Start(NewCall(*serving, request->generation().image(), *context, *reactor),
                   serving->validator.Validate(*request));
  } else {
    reactor->OnEnd(gate_.closed());
  }
  return reactor;
}

grpc::ServerUnaryReactor* VariationsService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest* /*request*/,
                                                      v1::GetModelResponse* response) {
  RpcRecord record(metrics_, clock_, "GetModel", kUnary);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const CallContext* serving = serving_;
  if (serving == nullptr) {
    reactor->Finish(record.End(gate_.closed()));
    return reactor;
  }
  const ModelInfo& model = serving->engine.model();
  response->set_model_id(model.model_id);
  response->set_revision(model.revision);
  response->mutable_component_sha256()->insert(model.component_sha256.begin(),
                                               model.component_sha256.end());
  response->set_device(model.device);
  response->set_dtype(model.dtype);
  for (const SamplerInfo& sampler : Samplers()) response->add_samplers(std::string(sampler.name));
  *response->mutable_defaults() = serving->validator.defaults();
  *response->mutable_limits() = serving->validator.limits();
  response->set_safety(engine_options_.safety == SafetyMode::kRequired ? "required" : "off");
  response->set_fingerprint(model.fingerprint);
  response->set_reproducible(model.reproducible);
  response->set_server_version(IV_VERSION);
  reactor->Finish(record.End(absl::OkStatus()));
  return reactor;
}

grpc::ServerUnaryReactor* VariationsService::GetServerStatus(
    grpc::CallbackServerContext* context, const v1::GetServerStatusRequest* /*request*/,
    v1::GetServerStatusResponse* response) {
  RpcRecord record(metrics_, clock_, "GetServerStatus", kUnary);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  response->set_state(ToProto(lifecycle_.state()));
  if (const CallContext* serving = serving_) {
    const EngineStatus engine = serving->engine.status();
    const ModelInfo& model = serving->engine.model();
    const int64_t area = int64_t{model.default_width / model.latent_factor} *
                         (model.default_height / model.latent_factor);
    response->set_rows_running(engine.rows_running);
    response->set_samples_waiting(engine.samples_waiting);
    *response->mutable_predicted_wait() = ToProto(engine.predicted_backlog);
    for (int rows = 1; rows <= engine_options_.batcher.max_rows; rows *= 2) {
      v1::StepCost& cost = *response->add_step_costs();
      cost.set_rows(rows);
      *cost.mutable_time() = ToProto(engine.step_cost.Predict(area, rows));
    }
  }
  reactor->Finish(record.End(absl::OkStatus()));
  return reactor;
}

}  // namespace image_variations
