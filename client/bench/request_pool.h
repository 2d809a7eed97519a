// The requests that a load consists of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/messages.h"

namespace image_variations::client {

struct PictureSize {
  int width = 0, height = 0;  // pixels; 0: the server's
};

// Values that requests are drawn from, each with equal chance; an empty list: the server's default.
struct RequestMix {
  std::vector<std::string> pictures = {};  // encoded; at least one
  std::vector<int> sample_counts = {};
  std::vector<int> step_counts = {};
  std::vector<std::string> samplers = {};
  std::vector<float> guidance_scales = {};
  std::vector<PictureSize> sizes = {};
  std::vector<Priority> priorities = {};
};

// `count` requests with seeds of their own. The same for a seed always; a longer pool begins with
// the shorter one.
std::vector<VariationRequest> DrawRequests(const RequestMix&, int count, uint64_t seed);

}  // namespace image_variations::client
