#include "server/admission_request.h"

namespace image_variations {

int64_t BytesOf(const ValidRequest& request, int64_t encoded_bytes) {
  const int64_t result_bytes =
      int64_t{3} * request.width * request.height +
      WorstCaseEncodedBytes(request.format, request.width, request.height, request.jpeg_quality);
  return encoded_bytes + request.plan_bytes + request.source.decode_bytes +
         request.sample_count * result_bytes;
}

int64_t AnswerBytesOf(const ValidRequest& request, int variations) {
  return variations *
         WorstCaseEncodedBytes(request.format, request.width, request.height, request.jpeg_quality);
}

RequestShape ShapeOf(const ValidRequest& request, int latent_factor) {
  return {.samples = request.sample_count,
          .steps = request.unet_calls,
          .rows = RowsPerStep(request.guidance_scale),
          .size = {request.width / latent_factor, request.height / latent_factor}};
}

}  // namespace image_variations
