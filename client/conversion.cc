#include "client/conversion.h"

#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/error_details.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace image_variations::client {
namespace {

constexpr absl::string_view kDetailsUrl = "type.googleapis.com/google.rpc.Status";

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

pb::Preprocessing ToProto(Preprocessing preprocessing) {
  switch (preprocessing) {
    case Preprocessing::kModelCard:
      return pb::PREPROCESSING_MODEL_CARD;
    case Preprocessing::kClipProcessor:
      return pb::PREPROCESSING_CLIP_PROCESSOR;
    case Preprocessing::kUnspecified:
      break;
  }
  return pb::PREPROCESSING_UNSPECIFIED;
}

Preprocessing FromProto(pb::Preprocessing preprocessing) {
  switch (preprocessing) {
    case pb::PREPROCESSING_MODEL_CARD:
      return Preprocessing::kModelCard;
    case pb::PREPROCESSING_CLIP_PROCESSOR:
      return Preprocessing::kClipProcessor;
    default:
      return Preprocessing::kUnspecified;
  }
}

pb::Priority ToProto(Priority priority) {
  switch (priority) {
    case Priority::kInteractive:
      return pb::PRIORITY_INTERACTIVE;
    case Priority::kBatch:
      return pb::PRIORITY_BATCH;
    case Priority::kUnspecified:
      break;
  }
  return pb::PRIORITY_UNSPECIFIED;
}

Outcome FromProto(pb::Variation::Outcome outcome) {
  switch (outcome) {
    case pb::Variation::OUTCOME_GENERATED:
      return Outcome::kGenerated;
    case pb::Variation::OUTCOME_FILTERED:
      return Outcome::kFiltered;
    default:
      return Outcome::kFailed;
  }
}

ServerState FromProto(pb::GetServerStatusResponse::State state) {
  switch (state) {
    case pb::GetServerStatusResponse::STATE_STARTING:
      return ServerState::kStarting;
    case pb::GetServerStatusResponse::STATE_SERVING:
      return ServerState::kServing;
    case pb::GetServerStatusResponse::STATE_DRAINING:
      return ServerState::kDraining;
    case pb::GetServerStatusResponse::STATE_FAILED:
      return ServerState::kFailed;
    default:
      return ServerState::kUnspecified;
  }
}

VariationRequest FromProto(const pb::GenerateVariationsRequest& defaults) {
  VariationRequest request;
  request.sample_count = defaults.sample_count();
  if (defaults.has_guidance_scale()) request.guidance_scale = defaults.guidance_scale();
  if (defaults.has_step_count()) request.step_count = defaults.step_count();
  if (defaults.has_eta()) request.eta = defaults.eta();
  request.sampler = defaults.sampler();
  request.width = defaults.width();
  request.height = defaults.height();
  request.preprocessing = FromProto(defaults.preprocessing());
  request.mime_type = defaults.output().mime_type();
  request.jpeg_quality = defaults.output().jpeg_quality();
  return request;
}

ModelLimits FromProto(const pb::Limits& limits) {
  return {.max_image_bytes = limits.max_image_bytes(),
          .max_image_pixels = limits.max_image_pixels(),
          .max_unary_reply_bytes = limits.max_unary_reply_bytes(),
          .max_sample_count = limits.max_sample_count(),
          .max_step_count = limits.max_step_count(),
          .min_size = limits.min_size(),
          .max_size = limits.max_size(),
          .size_multiple = limits.size_multiple(),
          .max_guidance_scale = limits.max_guidance_scale()};
}

void DecodeDetail(const google::protobuf::Any& detail, ErrorDetails& details) {
  google::rpc::ErrorInfo error_info;
  google::rpc::BadRequest bad_request;
  google::rpc::RetryInfo retry_info;
  if (detail.UnpackTo(&error_info)) {
    details.reason = error_info.reason();
    details.metadata = {error_info.metadata().begin(), error_info.metadata().end()};
  } else if (detail.UnpackTo(&bad_request)) {
    for (const auto& violation : bad_request.field_violations()) {
      details.field_violations.push_back({violation.field(), violation.description()});
    }
  } else if (detail.UnpackTo(&retry_info)) {
    details.retry_after = FromProto(retry_info.retry_delay());
  }
}

std::vector<ModelDevice> DevicesOf(const pb::GetModelResponse& model) {
  std::vector<ModelDevice> devices;
  for (const pb::ModelDevice& device : model.devices()) {
    devices.push_back({.device = device.device(),
                       .dtype = device.dtype(),
                       .fingerprint = device.fingerprint(),
                       .reproducible = device.reproducible()});
  }
  return devices;
}

// Of a server's status, or of a device's.
template <typename Status>
std::map<int, absl::Duration> CostsOf(const Status& status) {
  std::map<int, absl::Duration> costs;
  for (const pb::StepCost& cost : status.step_costs()) costs[cost.rows()] = FromProto(cost.time());
  return costs;
}

}  // namespace

pb::GenerateVariationsRequest ToProto(VariationRequest&& request) {
  pb::GenerateVariationsRequest proto;
  proto.set_image(std::move(request.image));
  proto.set_sample_count(request.sample_count);
  if (request.seed) proto.set_seed(*request.seed);
  if (request.guidance_scale) proto.set_guidance_scale(*request.guidance_scale);
  if (request.step_count) proto.set_step_count(*request.step_count);
  if (request.eta) proto.set_eta(*request.eta);
  proto.set_sampler(std::move(request.sampler));
  proto.set_width(request.width);
  proto.set_height(request.height);
  proto.set_preprocessing(ToProto(request.preprocessing));
  proto.mutable_output()->set_mime_type(std::move(request.mime_type));
  proto.mutable_output()->set_jpeg_quality(request.jpeg_quality);
  proto.mutable_output()->set_omit_metadata(request.omit_metadata);
  proto.set_request_id(std::move(request.request_id));
  proto.set_priority(ToProto(request.priority));
  return proto;
}

Admitted FromProto(const pb::Admitted& admitted) {
  return {.parameters = FromProto(admitted.parameters()),
          .predicted_start = FromProto(admitted.predicted_start()),
          .predicted_finish = FromProto(admitted.predicted_finish()),
          .samples_ahead = admitted.samples_ahead()};
}

Preview FromProto(pb::Preview&& preview) {
  return {.index = preview.index(),
          .step = preview.step(),
          .mime_type = std::move(*preview.mutable_mime_type()),
          .image = std::move(*preview.mutable_image())};
}

Progress FromProto(const pb::Progress& progress) {
  return {.steps_done = progress.steps_done(),
          .steps_total = progress.steps_total(),
          .predicted_remaining = FromProto(progress.predicted_remaining())};
}

Variation FromProto(pb::Variation&& proto) {
  Variation variation{.index = proto.index(),
                      .outcome = FromProto(proto.outcome()),
                      .seed = proto.seed(),
                      .mime_type = proto.mime_type(),
                      .image = std::move(*proto.mutable_image()),
                      .width = proto.width(),
                      .height = proto.height(),
                      .similarity = {},
                      .error = {}};
  if (proto.has_similarity()) variation.similarity = proto.similarity();
  if (proto.has_error()) {
    variation.error = {
        .code = absl::StatusCodeToString(static_cast<absl::StatusCode>(proto.error().code())),
        .message = proto.error().message()};
  }
  return variation;
}

EffectiveParameters FromProto(const pb::EffectiveParameters& parameters) {
  return {.request_id = parameters.request_id(),
          .seed = parameters.seed(),
          .guidance_scale = parameters.guidance_scale(),
          .step_count = parameters.step_count(),
          .sampler = parameters.sampler(),
          .eta = parameters.eta(),
          .width = parameters.width(),
          .height = parameters.height(),
          .preprocessing = FromProto(parameters.preprocessing()),
          .model_id = parameters.model_id(),
          .fingerprint = parameters.fingerprint()};
}

RequestMetrics FromProto(const pb::RequestMetrics& metrics) {
  return {.queue_time = FromProto(metrics.queue_time()),
          .decode_time = FromProto(metrics.decode_time()),
          .embed_time = FromProto(metrics.embed_time()),
          .denoise_time = FromProto(metrics.denoise_time()),
          .latents_decode_time = FromProto(metrics.latents_decode_time()),
          .safety_time = FromProto(metrics.safety_time()),
          .encode_time = FromProto(metrics.encode_time()),
          .total_time = FromProto(metrics.total_time()),
          .unet_rows = metrics.unet_rows(),
          .mean_batch_rows = metrics.mean_batch_rows()};
}

ModelDescription FromProto(const pb::GetModelResponse& model) {
  return {.model_id = model.model_id(),
          .revision = model.revision(),
          .device = model.device(),
          .dtype = model.dtype(),
          .safety = model.safety(),
          .fingerprint = model.fingerprint(),
          .server_version = model.server_version(),
          .component_sha256 = {model.component_sha256().begin(), model.component_sha256().end()},
          .samplers = {model.samplers().begin(), model.samplers().end()},
          .defaults = FromProto(model.defaults()),
          .limits = FromProto(model.limits()),
          .reproducible = model.reproducible(),
          .devices = DevicesOf(model)};
}

ServerStatus FromProto(const pb::GetServerStatusResponse& status) {
  ServerStatus result{.state = FromProto(status.state()),
                      .rows_running = status.rows_running(),
                      .samples_waiting = status.samples_waiting(),
                      .predicted_wait = FromProto(status.predicted_wait()),
                      .step_costs = CostsOf(status),
                      .devices = {}};
  for (const pb::DeviceStatus& device : status.devices()) {
    result.devices.push_back({.device = device.device(),
                              .rows_running = device.rows_running(),
                              .samples_running = device.samples_running(),
                              .samples_waiting = device.samples_waiting(),
                              .predicted_wait = FromProto(device.predicted_wait()),
                              .step_costs = CostsOf(device)});
  }
  return result;
}

void SetDeadline(absl::Time deadline, grpc::ClientContext& context) {
  if (deadline < absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!status.error_details().empty()) {
    result.SetPayload(kDetailsUrl, absl::Cord(status.error_details()));
  }
  return result;
}

ErrorDetails DecodeErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  google::rpc::Status proto;
  const auto payload = status.GetPayload(kDetailsUrl);
  if (!payload || !proto.ParseFromString(std::string(*payload))) return details;
  for (const auto& detail : proto.details()) DecodeDetail(detail, details);
  return details;
}

}  // namespace image_variations::client
