#pragma once

#include <string>

namespace image_variations::client {

// A random UUID: RFC 4122, version 4. Any thread.
std::string NewRequestId();

}  // namespace image_variations::client
