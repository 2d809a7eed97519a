// Checks every field of a request against the limits and fills in what was left out. Nothing is
// decoded or planned here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/model_runner.h"
#include "pipeline/image/codec.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

// What a request may ask for, and what it gets when it does not say.
struct RequestLimits {
  DecodeLimits image;
  int max_sample_count = 16;
  int max_step_count = 250;
  int max_size = 0;  // pixels of one side; 0: twice the model's own
  float max_guidance_scale = 20;
  int64_t max_unary_reply_bytes = 4 << 20;  // what gRPC clients receive unless told otherwise
  int default_step_count = 50;
  float default_guidance_scale = 3;
};

// A request with nothing left open.
struct ValidRequest {
  std::string field_path{};  // of its fields in errors: "" or "generation."
  std::string request_id{};
  bool has_drawn_id = false;  // the caller did not send one
  ImageHeader source{};
  int sample_count = 1;
  uint64_t seed = 0;
  float guidance_scale = 0;
  SamplerChoice sampler{};
  int unet_calls = 0;      // of each sample
  int64_t plan_bytes = 0;  // that its plan takes
  int width = 0;
  int height = 0;
  int64_t latent_area = 0;
  Preprocessing preprocessing = Preprocessing::kModelCard;
  Priority priority = Priority::kInteractive;
  ImageFormat format = ImageFormat::kPng;
  int jpeg_quality = 95;
  bool omit_metadata = false;
  bool validate_only = false;
  int preview_interval_steps = 0;  // 0: no previews
  int preview_max_side = 0;        // pixels; 0: as the model draws them
};

// The most bytes that an encoded picture can have, metadata included. Exact for PNG (stored rows);
// for JPEG what a picture of saturated noise takes, with a margin.
int64_t WorstCaseEncodedBytes(ImageFormat, int width, int height, int jpeg_quality);

// INVALID_ARGUMENT with an IMAGE_* reason, of what the codec said about a request's picture.
absl::Status MakeImageError(const absl::Status& codec_status, absl::string_view field_path);

// Immutable; thread-safe.
class RequestValidator {
 public:
  RequestValidator(RequestLimits, const ModelInfo&);

  // INVALID_ARGUMENT names every bad field at once; a request whose only fault is its picture gets
  // an IMAGE_* reason. A seed and a request_id that are absent are drawn. Field paths in errors
  // begin with `path` ("generation." where the request is part of another).
  absl::StatusOr<ValidRequest> Validate(
      const imagevariations::v1::GenerateVariationsRequest& request,
      absl::string_view path = "") const;
  // Also checks what previews are asked for; they need ModelInfo::has_previews.
  absl::StatusOr<ValidRequest> Validate(
      const imagevariations::v1::StreamVariationsRequest& request) const;
  // A valid request's plan, which takes memory: for those who are let in. INVALID_ARGUMENT as
  // Validate: the model's noise schedule has no such steps.
  absl::StatusOr<std::shared_ptr<const SamplerPlan>> MakePlan(const ValidRequest&) const;
  // A reply that holds all samples must fit into a client's receive limit, even at its worst.
  absl::Status CheckReplySize(const ValidRequest&) const;

  // For GetModel.
  imagevariations::v1::Limits limits() const;
  imagevariations::v1::GenerateVariationsRequest defaults() const;
  const std::vector<SamplerInfo>& samplers() const { return samplers_; }
  const DecodeLimits& image_limits() const { return limits_.image; }

  class Violations;

 private:
  ValidRequest FillIn(const imagevariations::v1::GenerateVariationsRequest&) const;
  void CheckFields(const imagevariations::v1::GenerateVariationsRequest&,
                   const ValidRequest& filled, Violations*) const;

  RequestLimits limits_;
  ModelInfo model_;
  std::vector<SamplerInfo> samplers_;
  int min_size_;
};

}  // namespace image_variations
