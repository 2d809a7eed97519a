#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "client/messages.h"

namespace image_variations::client {

// What became of one picture of the command line.
struct PictureResult {
  std::string picture;  // as named there
  std::string source;   // its bytes
  absl::Status status;  // of the whole; what arrived before an error is kept
  VariationResult result;
  std::map<int, std::string> files;  // by index of the variation
};

}  // namespace image_variations::client
