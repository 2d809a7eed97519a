#include "server/generate_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/non_finite.h"
#include "pipeline/image/codec.h"
#include "server/generation_parameters.h"
#include "server/proto_conversion.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;

constexpr absl::Duration kLineFullRetryDelay = absl::Seconds(1);

// Whether a sample's status is about the whole request.
bool StopsTheCall(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsUnavailable(status) || absl::IsResourceExhausted(status);
}

int64_t UnetRowsOf(const ValidRequest& request) {
  const int rows_per_step = request.guidance_scale > 1 ? 2 : 1;
  return int64_t{request.sample_count} * request.unet_calls * rows_per_step;
}

// The engine's reason to stop a request, as the API tells it.
absl::Status DescribeStop(const absl::Status& why, int steps_done, int steps_total) {
  if (absl::IsDeadlineExceeded(why)) return MakeDeadlinePassedError(steps_done, steps_total);
  if (absl::IsUnavailable(why)) {
    return MakeError(why.code(), reason::kDeviceFailed, why.message());
  }
  if (absl::IsResourceExhausted(why)) {
    return WithRetryDelay(MakeError(why.code(), reason::kQueueFull, why.message()),
                          kLineFullRetryDelay);
  }
  return MakeError(absl::StatusCode::kCancelled, reason::kCancelled, why.message());
}

// The engine's reason to fail one sample, as the API tells it.
absl::Status DescribeFailure(int index, const absl::Status& why) {
  ErrorMetadata metadata = {{"index", absl::StrCat(index)}};
  const absl::optional<absl::Cord> stage = why.GetPayload(kNonFiniteStagePayload);
  if (stage) metadata["stage"] = std::string(*stage);
  return MakeError(why.code(), stage ? reason::kNonFiniteOutput : reason::kInternal, why.message(),
                   metadata);
}

}  // namespace

absl::Status WhyCancelled(absl::Time now, absl::Time deadline) {
  if (now >= deadline) return absl::DeadlineExceededError("the deadline passed");
  return absl::CancelledError("the caller cancelled");
}

GenerateCall::GenerateCall(const CallContext& context, JobId id, const std::string& image,
                           absl::Time deadline, GenerateReply& reply, CallOrigin origin)
    : context_(context),
      id_(id),
      image_(image),
      deadline_(deadline),
      reply_(reply),
      origin_(std::move(origin)),
      begin_(context.clock.Now()) {
  context_.metrics.OnRequestStarted();
}

void GenerateCall::Start(absl::StatusOr<ValidRequest> request) {
  if (const absl::Status admitted = Admit(std::move(request)); !admitted.ok()) {
    const bool quotes_caller = absl::IsInvalidArgument(admitted);  // a seed, for one
    Log(Severity::kDebug, "request refused",
        {{"request_id", request_.request_id},
         {"trace_id", origin_.trace_id},
         {"caller", origin_.caller},
         {"reason", ReasonOf(admitted)},
         {"why", quotes_caller ? "" : admitted.message()}});
    context_.metrics.OnRequestEnded(admitted, /*was_admitted=*/false);
    caller_ticket_ = {};
    reply_.OnEnd(admitted);
    return;
  }
  v1::Admitted admitted;
  *admitted.mutable_parameters() = parameters();
  *admitted.mutable_predicted_start() = ToProto(ticket_.forecast().start);
  *admitted.mutable_predicted_finish() = ToProto(ticket_.forecast().finish);
  admitted.set_samples_ahead(ticket_.forecast().samples_ahead);
  reply_.OnAdmitted(std::move(admitted), request_.validate_only ? 0 : request_.sample_count);
  if (request_.validate_only) {
    Finish(absl::OkStatus());
    return;
  }
  context_.codecs.Run([self = shared_from_this()] { self->DecodeAndSubmit(); });
}

void GenerateCall::Cancel() {
  {
    absl::MutexLock lock(&mutex_);
    is_cancelled_ = true;
  }
  Engine* const engine = engine_;
  if (engine != nullptr) engine->Cancel(id_, WhyCancelled(context_.clock.Now(), deadline_));
}

absl::Status GenerateCall::Admit(absl::StatusOr<ValidRequest> request) {
  RETURN_IF_ERROR(request.status());
  request_ = *std::move(request);
  ASSIGN_OR_RETURN(caller_ticket_,
                   context_.caller_limits.Enter(origin_.caller, UnetRowsOf(request_)));
  const AdmissionRequest asked{
      .bytes = BytesOf(request_, static_cast<int64_t>(image_.size())),
      .shape = ShapeOf(request_, context_.engines.at(0).model().latent_factor),
      .priority = request_.priority,
      .deadline = deadline_,
      .caller = origin_.caller,
      .request_id = request_.has_drawn_id ? "" : request_.request_id,
      .only_asks = request_.validate_only,
  };
  ASSIGN_OR_RETURN(ticket_, context_.gate.Enter(asked, context_.engines.costs(), begin_));
  engine_ = &context_.engines.at(ticket_.device());
  return request_.validate_only ? CheckPlan() : absl::OkStatus();
}

// Of a request that only asks, for which the gate keeps no bytes.
absl::Status GenerateCall::CheckPlan() const {
  ASSIGN_OR_RETURN(const HeldBytes held, context_.gate.Hold(request_.plan_bytes));
  return context_.validator.MakePlan(request_).status();
}

// Codec thread.
void GenerateCall::DecodeAndSubmit() {
  if (is_cancelled()) {
    Finish(DescribeStop(WhyCancelled(context_.clock.Now(), deadline_), 0, 0));
    return;
  }
  absl::StatusOr<Job> job = MakeJob();
  if (!job.ok()) {
    Finish(job.status());
    return;
  }
  open_parts_ = request_.sample_count + 1;
  if (const absl::Status submitted = engine().Submit(*std::move(job)); !submitted.ok()) {
    Finish(DescribeStop(submitted, 0, 0));
    return;
  }
  if (is_cancelled()) {  // that came before Submit
    engine().Cancel(id_, WhyCancelled(context_.clock.Now(), deadline_));
  }
}

absl::StatusOr<Job> GenerateCall::MakeJob() {
  ASSIGN_OR_RETURN(std::shared_ptr<const SamplerPlan> plan, context_.validator.MakePlan(request_));
  const absl::Time begin = context_.clock.Now();
  const DecodeLimits& limits = context_.validator.image_limits();
  absl::StatusOr<Image> image = context_.sandbox == nullptr
                                    ? DecodeImage(image_, limits)
                                    : context_.sandbox->Decode(image_, limits);
  if (absl::IsResourceExhausted(image.status())) return DescribeStop(image.status(), 0, 0);
  if (absl::IsUnavailable(image.status())) return MakeDrainingError(image.status().message());
  if (absl::IsInternal(image.status())) {
    return MakeError(image.status().code(), reason::kInternal, image.status().message());
  }
  if (!image.ok()) return MakeImageError(image.status(), request_.field_path);
  decode_time_ = context_.clock.Now() - begin;
  context_.metrics.OnImageDecoded(decode_time_);
  const int factor = engine().model().latent_factor;
  return Job{
      .id = id_,
      .source = std::make_shared<const Image>(*std::move(image)),
      .preprocessing = request_.preprocessing,
      .plan = std::move(plan),
      .sample_count = request_.sample_count,
      .seed = request_.seed,
      .guidance_scale = request_.guidance_scale,
      .latent_width = request_.width / factor,
      .latent_height = request_.height / factor,
      .priority = request_.priority,
      .deadline = deadline_,
      .answer_time = ticket_.forecast().answer,
      .preview_interval_steps = request_.preview_interval_steps,
      .preview_max_side = request_.preview_max_side,
      .caller = origin_.caller,
      .listener = shared_from_this(),
  };
}

void GenerateCall::OnProgress(const JobProgress& news) {
  steps_done_ = news.steps_done;
  ticket_.ReportProgress(news);
  v1::Progress progress;
  progress.set_steps_done(news.steps_done);
  progress.set_steps_total(news.steps_total);
  *progress.mutable_predicted_remaining() = ToProto(news.predicted_remaining);
  reply_.OnProgress(std::move(progress));
}

void GenerateCall::OnPreview(int index, int step, CheckedImage picture) {
  if (picture.blocked() || is_cancelled()) return;
  reply_.OnPreview({index, step, std::make_shared<const CheckedImage>(std::move(picture))});
}

void GenerateCall::OnSample(int index, absl::StatusOr<SampleResult> result) {
  if (!result.ok()) {
    has_every_picture_ = false;
    AnswerFailed(index, result.status());
    EndPart();
    return;
  }
  context_.codecs.Run([self = shared_from_this(), index, result = *std::move(result)] {
    self->Encode(index, result);
    self->EndPart();
  });
}

void GenerateCall::OnDone(const JobMetrics& metrics) {
  job_metrics_ = metrics;
  ticket_.ReportServed(context_.clock.Now(), has_every_picture_);
  context_.metrics.SetSlowdown(context_.gate.slowdown());
  EndPart();
}

// Codec thread.
void GenerateCall::Encode(int index, const SampleResult& result) {
  if (is_cancelled()) {
    AnswerFailed(index,
                 WhyCancelled(context_.clock.Now(), deadline_));  // nobody would read the picture
    return;
  }
  const uint64_t seed = request_.seed + static_cast<uint64_t>(index);
  v1::Variation variation;
  variation.set_index(index);
  variation.set_seed(static_cast<int64_t>(seed));
  if (result.image.blocked()) {
    variation.set_outcome(v1::Variation::OUTCOME_FILTERED);
    reply_.OnVariation(std::move(variation));
    return;
  }
  EncodeOptions options{.format = request_.format, .jpeg_quality = request_.jpeg_quality};
  if (!request_.omit_metadata) {
    options.parameters = GenerationParametersText(request_, seed, engine().model());
  }
  const absl::Time begin = context_.clock.Now();
  absl::StatusOr<std::string> bytes = EncodeChecked(result.image, options);
  const absl::Duration time = context_.clock.Now() - begin;
  if (!bytes.ok()) {
    AnswerFailed(index, bytes.status());
    return;
  }
  context_.metrics.OnImageEncoded(time);
  variation.set_outcome(v1::Variation::OUTCOME_GENERATED);
  variation.set_mime_type(std::string(MimeType(request_.format)));
  variation.set_image(*std::move(bytes));
  variation.set_width(result.image.image().width);
  variation.set_height(result.image.image().height);
  if (result.similarity) variation.set_similarity(*result.similarity);
  reply_.OnVariation(std::move(variation));
  absl::MutexLock lock(&mutex_);
  encode_time_ += time;
}

void GenerateCall::AnswerFailed(int index, const absl::Status& why) {
  if (StopsTheCall(why)) {
    const int steps_total = request_.sample_count * request_.unet_calls;
    absl::MutexLock lock(&mutex_);
    if (stopped_.ok()) stopped_ = DescribeStop(why, steps_done_, steps_total);
    return;
  }
  const absl::Status failure = DescribeFailure(index, why);
  v1::Variation variation;
  variation.set_index(index);
  variation.set_seed(static_cast<int64_t>(request_.seed) + index);
  variation.set_outcome(v1::Variation::OUTCOME_FAILED);
  *variation.mutable_error() = ToRpcStatus(failure);
  reply_.OnVariation(std::move(variation));
  absl::MutexLock lock(&mutex_);
  ++failed_samples_;
  if (first_failure_.ok()) first_failure_ = failure;
}

// The last one answers.
void GenerateCall::EndPart() {
  if (--open_parts_ > 0) return;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = stopped_;
    if (status.ok() && failed_samples_ == request_.sample_count) status = first_failure_;
  }
  if (status.ok()) {
    ticket_.ReportAnswered(context_.clock.Now());
    context_.metrics.OnRequestServed(job_metrics_, ticket_.forecast().finish,
                                     context_.clock.Now() - begin_);
  }
  Finish(status);
}

void GenerateCall::Finish(const absl::Status& status) {
  Log(Severity::kInfo, "request ended",
      {{"request_id", request_.request_id},
       {"trace_id", origin_.trace_id},
       {"caller", origin_.caller},
       {"code", absl::StatusCodeToString(status.code())},
       {"reason", ReasonOf(status)},
       {"samples", request_.sample_count},
       {"steps", request_.sampler.num_inference_steps},
       {"unet_rows", job_metrics_.unet_rows},
       {"seconds", absl::ToDoubleSeconds(context_.clock.Now() - begin_)}});
  context_.metrics.OnRequestEnded(status, /*was_admitted=*/true);
  caller_ticket_ = {};  // before the answer, on which the caller may call again
  if (status.ok()) {
    reply_.OnEnd(completed());
  } else {
    reply_.OnEnd(status);
  }
}

bool GenerateCall::is_cancelled() const {
  absl::MutexLock lock(&mutex_);
  return is_cancelled_;
}

v1::EffectiveParameters GenerateCall::parameters() const {
  const ModelInfo& model = engine().model();
  v1::EffectiveParameters parameters;
  parameters.set_request_id(request_.request_id);
  parameters.set_seed(static_cast<int64_t>(request_.seed));
  parameters.set_guidance_scale(request_.guidance_scale);
  parameters.set_step_count(request_.sampler.num_inference_steps);
  parameters.set_sampler(request_.sampler.name);
  parameters.set_eta(static_cast<float>(request_.sampler.eta));
  parameters.set_width(request_.width);
  parameters.set_height(request_.height);
  parameters.set_preprocessing(request_.preprocessing == Preprocessing::kClipProcessor
                                   ? v1::PREPROCESSING_CLIP_PROCESSOR
                                   : v1::PREPROCESSING_MODEL_CARD);
  parameters.set_model_id(model.model_id);
  parameters.set_fingerprint(model.fingerprint);
  return parameters;
}

v1::Completed GenerateCall::completed() const {
  v1::Completed completed;
  *completed.mutable_parameters() = parameters();
  v1::RequestMetrics& metrics = *completed.mutable_metrics();
  *metrics.mutable_queue_time() = ToProto(job_metrics_.queue_time);
  *metrics.mutable_decode_time() = ToProto(decode_time_);
  *metrics.mutable_embed_time() = ToProto(job_metrics_.embed_time);
  *metrics.mutable_denoise_time() = ToProto(job_metrics_.denoise_time);
  *metrics.mutable_latents_decode_time() = ToProto(job_metrics_.latents_decode_time);
  *metrics.mutable_safety_time() = ToProto(job_metrics_.safety_time);
  *metrics.mutable_total_time() = ToProto(context_.clock.Now() - begin_);
  metrics.set_unet_rows(job_metrics_.unet_rows);
  metrics.set_mean_batch_rows(job_metrics_.mean_batch_rows);
  absl::MutexLock lock(&mutex_);
  *metrics.mutable_encode_time() = ToProto(encode_time_);
  return completed;
}

}  // namespace image_variations
