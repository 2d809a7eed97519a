#include "client/bench/request_pool.h"

#include <cstddef>

#include "client/bench/random_stream.h"

namespace image_variations::client {
namespace {

// Draws also when there is nothing to choose from: a list more does not change the other choices.
template <typename Value>
Value Draw(RandomStream& random, const std::vector<Value>& values, Value otherwise) {
  const size_t index = random.NextIndex(values.size());
  return values.empty() ? otherwise : values[index];
}

VariationRequest DrawRequest(const RequestMix& mix, RandomStream& random) {
  VariationRequest request;
  request.image = Draw(random, mix.pictures, std::string());
  request.sample_count = Draw(random, mix.sample_counts, request.sample_count);
  const int step_count = Draw(random, mix.step_counts, 0);
  if (!mix.step_counts.empty()) request.step_count = step_count;
  request.sampler = Draw(random, mix.samplers, std::string());
  const float guidance_scale = Draw(random, mix.guidance_scales, 0.0f);
  if (!mix.guidance_scales.empty()) request.guidance_scale = guidance_scale;
  const PictureSize size = Draw(random, mix.sizes, PictureSize());
  request.width = size.width;
  request.height = size.height;
  request.priority = Draw(random, mix.priorities, Priority::kUnspecified);
  request.seed = static_cast<int64_t>(random.Next() >> 33);  // 31 bits: seed + i stays below 2^32
  return request;
}

}  // namespace

std::vector<VariationRequest> DrawRequests(const RequestMix& mix, int count, uint64_t seed) {
  RandomStream random(seed, Purpose::kMix);
  std::vector<VariationRequest> requests;
  for (int i = 0; i < count; ++i) requests.push_back(DrawRequest(mix, random));
  return requests;
}

}  // namespace image_variations::client
