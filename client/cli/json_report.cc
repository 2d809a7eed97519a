#include "client/cli/json_report.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cli/names.h"
#include "client/error_details.h"

namespace image_variations::client {
namespace {

using Json = nlohmann::ordered_json;

// Shortest decimal that reads back as the same float: 0.1f is 0.1, not 0.10000000149011612.
double Tidy(float value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), value).ptr;
  double tidy = 0;
  std::from_chars(digits.begin(), end, tidy);
  return tidy;
}

std::string Print(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // file names may be no UTF-8
}

Json ParametersToJson(const EffectiveParameters& parameters) {
  return {{"request_id", parameters.request_id},
          {"seed", parameters.seed},
          {"guidance_scale", Tidy(parameters.guidance_scale)},
          {"step_count", parameters.step_count},
          {"sampler", parameters.sampler},
          {"eta", Tidy(parameters.eta)},
          {"width", parameters.width},
          {"height", parameters.height},
          {"preprocessing", NameOf(parameters.preprocessing)},
          {"model_id", parameters.model_id},
          {"fingerprint", parameters.fingerprint}};
}

Json MetricsToJson(const RequestMetrics& metrics) {
  return {{"queue_seconds", absl::ToDoubleSeconds(metrics.queue_time)},
          {"decode_seconds", absl::ToDoubleSeconds(metrics.decode_time)},
          {"embed_seconds", absl::ToDoubleSeconds(metrics.embed_time)},
          {"denoise_seconds", absl::ToDoubleSeconds(metrics.denoise_time)},
          {"latents_decode_seconds", absl::ToDoubleSeconds(metrics.latents_decode_time)},
          {"safety_seconds", absl::ToDoubleSeconds(metrics.safety_time)},
          {"encode_seconds", absl::ToDoubleSeconds(metrics.encode_time)},
          {"total_seconds", absl::ToDoubleSeconds(metrics.total_time)},
          {"unet_rows", metrics.unet_rows},
          {"mean_batch_rows", metrics.mean_batch_rows}};
}

Json VariationToJson(const Variation& variation, const PictureResult& picture) {
  Json json = {
      {"index", variation.index}, {"outcome", NameOf(variation.outcome)}, {"seed", variation.seed}};
  if (const auto file = picture.files.find(variation.index); file != picture.files.end()) {
    json["file"] = file->second;
  }
  if (variation.outcome == Outcome::kGenerated) {
    json["mime_type"] = variation.mime_type;
    json["width"] = variation.width;
    json["height"] = variation.height;
    if (variation.similarity) json["similarity"] = Tidy(*variation.similarity);
  }
  if (variation.outcome == Outcome::kFailed) {
    json["error"] = {{"code", variation.error.code}, {"message", variation.error.message}};
  }
  return json;
}

Json ErrorToJson(const absl::Status& status) {
  const ErrorDetails details = DecodeErrorDetails(status);
  Json json = {{"code", absl::StatusCodeToString(status.code())},
               {"message", std::string(status.message())}};
  if (!details.reason.empty()) json["reason"] = details.reason;
  if (!details.metadata.empty()) json["metadata"] = details.metadata;
  for (const FieldViolation& violation : details.field_violations) {
    json["field_violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  if (details.retry_after) {
    json["retry_after_seconds"] = absl::ToDoubleSeconds(*details.retry_after);
  }
  return json;
}

const char* OutcomeOf(const PictureResult& picture) {
  if (!picture.status.ok()) return "failed";
  const auto& variations = picture.result.variations;
  const bool whole = std::all_of(variations.begin(), variations.end(), [](const Variation& each) {
    return each.outcome == Outcome::kGenerated;
  });
  return whole ? "done" : "samples_missing";
}

Json DefaultsToJson(const VariationRequest& defaults) {
  Json json = {{"sample_count", defaults.sample_count}};
  if (defaults.guidance_scale) json["guidance_scale"] = Tidy(*defaults.guidance_scale);
  if (defaults.step_count) json["step_count"] = *defaults.step_count;
  json["sampler"] = defaults.sampler;
  json["width"] = defaults.width;
  json["height"] = defaults.height;
  json["preprocessing"] = NameOf(defaults.preprocessing);
  return json;
}

Json LimitsToJson(const ModelLimits& limits) {
  return {{"max_image_bytes", limits.max_image_bytes},
          {"max_image_pixels", limits.max_image_pixels},
          {"max_sample_count", limits.max_sample_count},
          {"max_step_count", limits.max_step_count},
          {"min_size", limits.min_size},
          {"max_size", limits.max_size},
          {"size_multiple", limits.size_multiple},
          {"max_guidance_scale", Tidy(limits.max_guidance_scale)},
          {"max_unary_reply_bytes", limits.max_unary_reply_bytes}};
}

Json CostsToJson(const std::map<int, absl::Duration>& step_costs) {
  Json costs = Json::array();
  for (const auto& [rows, time] : step_costs) {
    costs.push_back({{"rows", rows}, {"seconds", absl::ToDoubleSeconds(time)}});
  }
  return costs;
}

Json DevicesToJson(const std::vector<ModelDevice>& devices) {
  Json json = Json::array();
  for (const ModelDevice& device : devices) {
    json.push_back({{"device", device.device},
                    {"dtype", device.dtype},
                    {"fingerprint", device.fingerprint},
                    {"reproducible", device.reproducible}});
  }
  return json;
}

Json StatusToJson(const ServerStatus& status) {
  Json devices = Json::array();
  for (const DeviceStatus& device : status.devices) {
    devices.push_back({{"device", device.device},
                       {"rows_running", device.rows_running},
                       {"samples_running", device.samples_running},
                       {"samples_waiting", device.samples_waiting},
                       {"predicted_wait_seconds", absl::ToDoubleSeconds(device.predicted_wait)},
                       {"step_costs", CostsToJson(device.step_costs)}});
  }
  return {{"state", NameOf(status.state)},
          {"rows_running", status.rows_running},
          {"samples_waiting", status.samples_waiting},
          {"predicted_wait_seconds", absl::ToDoubleSeconds(status.predicted_wait)},
          {"step_costs", CostsToJson(status.step_costs)},
          {"devices", devices}};
}

}  // namespace

std::string ToJson(const PictureResult& picture) {
  Json json = {{"picture", picture.picture}, {"outcome", OutcomeOf(picture)}};
  if (picture.status.ok()) {
    json["parameters"] = ParametersToJson(picture.result.parameters);
    json["metrics"] = MetricsToJson(picture.result.metrics);
  }
  json["variations"] = Json::array();
  for (const Variation& variation : picture.result.variations) {
    json["variations"].push_back(VariationToJson(variation, picture));
  }
  if (!picture.status.ok()) json["error"] = ErrorToJson(picture.status);
  return Print(json);
}

std::string ToJson(const ModelDescription& model, const ServerStatus& status) {
  return Print({{"model_id", model.model_id},
                {"revision", model.revision},
                {"component_sha256", model.component_sha256},
                {"device", model.device},
                {"dtype", model.dtype},
                {"samplers", model.samplers},
                {"defaults", DefaultsToJson(model.defaults)},
                {"limits", LimitsToJson(model.limits)},
                {"safety", model.safety},
                {"fingerprint", model.fingerprint},
                {"reproducible", model.reproducible},
                {"devices", DevicesToJson(model.devices)},
                {"server_version", model.server_version},
                {"status", StatusToJson(status)}});
}

}  // namespace image_variations::client
