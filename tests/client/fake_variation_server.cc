#include "tests/client/fake_variation_server.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

namespace pb = imagevariations::v1;

std::string MakeFolder() {
  std::string name = "/tmp/fake-variation-server-XXXXXX";
  IV_CHECK(mkdtemp(name.data()) != nullptr);
  return name;
}

grpc::Status WithDetails(const google::rpc::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), status.message(),
                      status.SerializeAsString());
}

google::rpc::Status MakeStatus(grpc::StatusCode code, const std::string& message,
                               const std::string& reason) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo error_info;
  error_info.set_reason(reason);
  (*error_info.mutable_metadata())["limit"] = "16";
  status.add_details()->PackFrom(error_info);
  return status;
}

pb::EffectiveParameters MakeParameters(const pb::GenerateVariationsRequest& request, int64_t seed) {
  pb::EffectiveParameters parameters;
  parameters.set_request_id(request.request_id());
  parameters.set_seed(seed);
  parameters.set_guidance_scale(request.has_guidance_scale() ? request.guidance_scale() : 3);
  parameters.set_step_count(request.has_step_count() ? request.step_count() : 25);
  parameters.set_sampler(request.sampler().empty() ? "pndm" : request.sampler());
  parameters.set_width(64);
  parameters.set_height(64);
  parameters.set_model_id("fake");
  parameters.set_fingerprint("f00d");
  return parameters;
}

}  // namespace

FakeVariationServer::FakeVariationServer(FakeBehaviour behaviour)
    : behaviour_(std::move(behaviour)), folder_(MakeFolder()), address_("unix:" + folder_ + "/s") {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  if (behaviour_.calls_per_connection > 0) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, behaviour_.calls_per_connection);
  }
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  IV_CHECK(server_ != nullptr);
}

FakeVariationServer::~FakeVariationServer() {
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  std::filesystem::remove_all(folder_);
}

void FakeVariationServer::RefuseNext(grpc::Status status) {
  absl::MutexLock lock(&mutex_);
  refusals_.push_back(std::move(status));
}

void FakeVariationServer::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
}

std::vector<pb::StreamVariationsRequest> FakeVariationServer::calls() const {
  absl::MutexLock lock(&mutex_);
  return calls_;
}

std::optional<grpc::Status> FakeVariationServer::Note(const pb::StreamVariationsRequest& request) {
  absl::MutexLock lock(&mutex_);
  calls_.push_back(request);
  if (refusals_.empty()) return std::nullopt;
  grpc::Status refusal = refusals_.front();
  refusals_.pop_front();
  return refusal;
}

pb::Variation FakeVariationServer::MakeVariation(int index, int64_t seed) const {
  pb::Variation variation;
  variation.set_index(index);
  variation.set_seed(seed + index);
  const auto outcome = behaviour_.outcomes.find(index);
  variation.set_outcome(outcome == behaviour_.outcomes.end() ? pb::Variation::OUTCOME_GENERATED
                                                             : outcome->second);
  if (variation.outcome() == pb::Variation::OUTCOME_GENERATED) {
    variation.set_mime_type("image/png");
    variation.set_image(behaviour_.make_image(index));
    variation.set_width(64);
    variation.set_height(64);
    variation.set_similarity(0.5f);
  } else if (variation.outcome() == pb::Variation::OUTCOME_FAILED) {
    variation.mutable_error()->set_code(grpc::StatusCode::INTERNAL);
    variation.mutable_error()->set_message("latents are not finite");
  }
  return variation;
}

grpc::Status FakeVariationServer::StreamVariations(
    grpc::ServerContext* context, const pb::StreamVariationsRequest* request,
    grpc::ServerWriter<pb::StreamVariationsResponse>* writer) {
  if (auto refusal = Note(*request)) return *refusal;
  const pb::GenerateVariationsRequest& generation = request->generation();
  const int64_t seed = generation.has_seed() ? generation.seed() : behaviour_.drawn_seed;
  const pb::EffectiveParameters parameters = MakeParameters(generation, seed);
  const int sample_count = std::max(1, generation.sample_count());

  pb::StreamVariationsResponse event;
  *event.mutable_admitted()->mutable_parameters() = parameters;
  event.mutable_admitted()->set_samples_ahead(2);
  writer->Write(event);
  if (behaviour_.hang_when_admitted) {
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    absl::MutexLock lock(&mutex_);
    if (!cancelled_.HasBeenNotified()) cancelled_.Notify();
    return grpc::Status::CANCELLED;
  }
  for (int half = 0; request->progress() && half <= 2; ++half) {
    event.mutable_progress()->set_steps_done(parameters.step_count() * sample_count * half / 2);
    event.mutable_progress()->set_steps_total(parameters.step_count() * sample_count);
    event.mutable_progress()->mutable_predicted_remaining()->set_seconds(2 - half);
    writer->Write(event);
  }
  int sent = 0;
  for (int index = sample_count - 1; index >= 0; --index) {
    if (sent++ == behaviour_.variations_before_breaking) {
      return {grpc::StatusCode::UNAVAILABLE, "device lost"};
    }
    if (index == behaviour_.missing_variation) continue;
    *event.mutable_variation() = MakeVariation(index, seed);
    writer->Write(event);
  }
  if (!behaviour_.send_completed) return grpc::Status::OK;
  *event.mutable_completed()->mutable_parameters() = parameters;
  event.mutable_completed()->mutable_metrics()->mutable_total_time()->set_seconds(3);
  event.mutable_completed()->mutable_metrics()->set_unet_rows(200);
  writer->Write(event);
  return grpc::Status::OK;
}

grpc::Status FakeVariationServer::GetModel(grpc::ServerContext*, const pb::GetModelRequest*,
                                           pb::GetModelResponse* response) {
  response->set_model_id("fake/model@main");
  response->set_device("cpu");
  response->set_dtype("fp32");
  response->add_samplers("pndm");
  response->add_samplers("ddim");
  response->mutable_defaults()->set_step_count(25);
  response->mutable_defaults()->set_guidance_scale(3);
  response->mutable_limits()->set_max_sample_count(16);
  (*response->mutable_component_sha256())["unet"] = "abc";
  response->set_safety("required");
  response->set_reproducible(true);
  for (const char* device : {"cpu", "cuda:0"}) response->add_devices()->set_device(device);
  return grpc::Status::OK;
}

grpc::Status FakeVariationServer::GetServerStatus(grpc::ServerContext*,
                                                  const pb::GetServerStatusRequest*,
                                                  pb::GetServerStatusResponse* response) {
  response->set_state(pb::GetServerStatusResponse::STATE_SERVING);
  response->set_rows_running(8);
  response->set_samples_waiting(3);
  response->mutable_predicted_wait()->set_seconds(12);
  pb::StepCost* cost = response->add_step_costs();
  cost->set_rows(8);
  cost->mutable_time()->set_nanos(250'000'000);
  for (const int rows : {2, 6}) response->add_devices()->set_rows_running(rows);
  *response->mutable_devices(1)->add_step_costs() = *cost;
  return grpc::Status::OK;
}

grpc::Status Refusal(grpc::StatusCode code, const std::string& message, const std::string& reason,
                     std::optional<absl::Duration> retry_after) {
  google::rpc::Status status = MakeStatus(code, message, reason);
  if (retry_after) {
    google::rpc::RetryInfo retry_info;
    retry_info.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(*retry_after));
    status.add_details()->PackFrom(retry_info);
  }
  return WithDetails(status);
}

grpc::Status FieldRefusal(const std::string& message, const std::string& field) {
  google::rpc::Status status =
      MakeStatus(grpc::StatusCode::INVALID_ARGUMENT, message, "INVALID_FIELD");
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(field);
  violation->set_description(message);
  status.add_details()->PackFrom(bad_request);
  return WithDetails(status);
}

}  // namespace image_variations::client
