// What --json prints: one line of JSON for each answer. Times are in seconds.
#pragma once

#include <string>

#include "client/cli/picture_result.h"
#include "client/messages.h"

namespace image_variations::client {

// {"picture", "outcome": "done" | "samples_missing" | "failed", "parameters", "metrics",
// "variations":
// [{"index", "outcome", "seed", "file", ...}], "error": {"code", "reason", "message", ...}}; keys
// without a value are absent.
std::string ToJson(const PictureResult&);

std::string ToJson(const ModelDescription&, const ServerStatus&);

}  // namespace image_variations::client
