// VariationService on gRPC's callback API: binds rpcs to GenerateCall and tells about the server.
#pragma once

#include <atomic>
#include <memory>

#include "absl/functional/function_ref.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/engine.h"
#include "server/admission.h"
#include "server/authenticator.h"
#include "server/caller_limits.h"
#include "server/engine_pool.h"
#include "server/generate_call.h"
#include "server/lifecycle.h"
#include "server/metrics.h"
#include "server/open_answers.h"
#include "server/request_ledger.h"
#include "server/request_validator.h"
#include "server/variations_rpc.h"
#include "server/worker_pool.h"

namespace image_variations {

// Thread-safe. What it is made of must outlive it, and it the gRPC server.
class VariationsService final : public imagevariations::v1::VariationService::CallbackService {
 public:
  VariationsService(RequestLimits, EngineOptions, const Clock&, const Lifecycle&, Authenticator&,
                    CallerLimits&, AdmissionGate&, RequestLedger&, WorkerPool& codecs, Metrics&);

  // Where pictures are decoded, if not in this process. Before Serve.
  void DecodeIn(const DecodeSandbox& sandbox) { sandbox_ = &sandbox; }
  // From now on requests reach the engines, which are warm; until then they are refused as the gate
  // says. Once.
  void Serve(const EnginePool&);
  // False when callers who were let in still wait for some of their answer after `timeout`.
  bool WaitUntilAnswered(absl::Duration timeout) const { return answers_.WaitUntilNone(timeout); }

  grpc::ServerUnaryReactor* GenerateVariations(
      grpc::CallbackServerContext*, const imagevariations::v1::GenerateVariationsRequest*,
      imagevariations::v1::GenerateVariationsResponse*) override;
  grpc::ServerWriteReactor<imagevariations::v1::StreamVariationsResponse>* StreamVariations(
      grpc::CallbackServerContext*, const imagevariations::v1::StreamVariationsRequest*) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext*,
                                     const imagevariations::v1::GetModelRequest*,
                                     imagevariations::v1::GetModelResponse*) override;
  grpc::ServerUnaryReactor* GetServerStatus(grpc::CallbackServerContext*,
                                            const imagevariations::v1::GetServerStatusRequest*,
                                            imagevariations::v1::GetServerStatusResponse*) override;

 private:
  absl::StatusOr<Caller> Identify(const grpc::CallbackServerContext&, absl::string_view trace_id,
                                  Right needed);
  // Starts the request's work, or joins that of an earlier call with its request_id.
  void Begin(const CallContext&, const Caller&, const grpc::CallbackServerContext&,
             const imagevariations::v1::GenerateVariationsRequest&, absl::StatusOr<ValidRequest>,
             VariationsRpc&);
  // In the ledger, with what the rpc needs to answer.
  absl::StatusOr<RequestLedger::Claim> Join(const Caller&,
                                            const imagevariations::v1::GenerateVariationsRequest&,
                                            const ValidRequest&, absl::Time deadline,
                                            VariationsRpc&);
  // An rpc about the server, of `method`, a literal: who may call is told what `fill_response`
  // says.
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext&, const char* method,
                                    absl::FunctionRef<absl::Status()> fill_response);
  void Describe(const CallContext&, imagevariations::v1::GetModelResponse&) const;
  // `image` lives until the reply's OnEnd.
  std::shared_ptr<GenerateCall> NewCall(const CallContext&, const std::string& image,
                                        absl::Time deadline, GenerateReply&, CallOrigin);

  const RequestLimits limits_;
  const EngineOptions engine_options_;
  const Clock& clock_;
  const Lifecycle& lifecycle_;
  Authenticator& authenticator_;
  CallerLimits& caller_limits_;
  AdmissionGate& gate_;
  RequestLedger& ledger_;
  WorkerPool& codecs_;
  Metrics& metrics_;
  OpenAnswers answers_;
  const DecodeSandbox* sandbox_ = nullptr;
  std::unique_ptr<const RequestValidator> validator_;  // these two exist once the model is loaded,
  std::unique_ptr<const CallContext> calls_;           // and are found through serving_
  std::atomic<const CallContext*> serving_ = nullptr;
  std::atomic<uint64_t> last_job_ = 0;
};

}  // namespace image_variations
