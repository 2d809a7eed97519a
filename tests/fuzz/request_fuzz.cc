// The request validator, over whatever protobuf makes of the bytes: a request is refused with every
// bad field named, or everything that the engine needs is known and within its limits.
#include <cmath>
#include <cstdint>

#include "google/protobuf/stubs/logging.h"
#include "pipeline/base/status_macros.h"
#include "server/request_validator.h"
#include "server/rpc_status.h"
#include "tests/support/fake_model_runner.h"

namespace image_variations {
namespace {

void CheckValid(const ValidRequest& request, const RequestLimits& limits,
                const RequestValidator& validator) {
  IV_CHECK(request.sample_count >= 1 && request.sample_count <= limits.max_sample_count);
  IV_CHECK(request.guidance_scale >= 0 && request.guidance_scale <= limits.max_guidance_scale);
  IV_CHECK(request.sampler.num_inference_steps <= limits.max_step_count);
  IV_CHECK(request.width > 0 && request.width % 8 == 0);
  IV_CHECK(request.height > 0 && request.height % 8 == 0);
  IV_CHECK(request.jpeg_quality >= 1 && request.jpeg_quality <= 100);
  IV_CHECK(request.source.width > 0 && request.source.height > 0);
  IV_CHECK(request.request_id.size() == 36);
  const auto plan = validator.MakePlan(request).value();
  IV_CHECK(!plan->steps.empty());
  for (const SamplerStep& step : plan->steps) IV_CHECK(std::isfinite(step.prediction));
}

}  // namespace
}  // namespace image_variations

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace image_variations;                     // NOLINT(google-build-using-namespace)
  static const google::protobuf::LogSilencer silencer;  // it has a line for each text without UTF-8
  static const RequestLimits& limits = *new RequestLimits;
  static const RequestValidator& validator =
      *new RequestValidator(limits, FakeModelRunner::DefaultInfo());
  imagevariations::v1::StreamVariationsRequest request;
  if (!request.ParseFromArray(bytes, static_cast<int>(size))) return 0;
  const absl::StatusOr<ValidRequest> valid = validator.Validate(request);
  if (!valid.ok()) {
    IV_CHECK(absl::IsInvalidArgument(valid.status()));
    IV_CHECK(!ReasonOf(valid.status()).empty());
    static_cast<void>(ToGrpcStatus(valid.status()));
    return 0;
  }
  CheckValid(*valid, limits, validator);
  static_cast<void>(validator.CheckReplySize(*valid));
  return 0;
}
