// manifest.json beside model_index.json: the sha256 sum of every file of a checkpoint, as
// tools/convert_checkpoint.py writes it. {"unet/config.json": "64 hex digits", ...}
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// A value; without a manifest.json it accepts everything. Thread-compatible.
class Manifest {
 public:
  Manifest() = default;

  // INVALID_ARGUMENT: manifest.json is there and is not a map of sums.
  static absl::StatusOr<Manifest> Read(const std::string& model_folder);
  // `path` is for messages.
  static absl::StatusOr<Manifest> Parse(const std::string& path, absl::string_view text);

  // `file` as in the manifest, relative to the folder. INVALID_ARGUMENT names the file, the sum
  // that the manifest has and `sha256`; a file that the manifest does not list is refused too.
  absl::Status Check(absl::string_view file, absl::string_view sha256) const;

 private:
  std::string path_;
  std::optional<std::map<std::string, std::string, std::less<>>> sums_;
};

}  // namespace image_variations
