#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace image_variations::client {

// The candidate that a person who typed `word` most likely meant; empty when none is near.
std::string NearestName(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace image_variations::client
