// Pictures in, results out: what is on the disk is never lost by accident.
#pragma once

#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations::client {

inline constexpr int64_t kMaxPictureBytes = int64_t{256} << 20;  // servers take far less

// The file's bytes; "-" reads `standard_input`. NOT_FOUND, PERMISSION_DENIED, OUT_OF_RANGE (too
// large).
absl::StatusOr<std::string> ReadPicture(const std::string& path, std::istream& standard_input);

// What result files of each picture are named after: its file name without extension, "stdin" for
// "-"; equal ones of one run are told apart by a number: "cat", "cat-2".
std::vector<std::string> MakeStems(const std::vector<std::string>& pictures);

// "penguin-0-seed1.png"
std::string VariationFileName(const std::string& stem, int index, int64_t seed,
                              absl::string_view mime_type);

// "penguin-0-step10.jpg"
std::string PreviewFileName(const std::string& stem, int index, int step,
                            absl::string_view mime_type);

enum class Existing { kKeep, kReplace };

struct WrittenFile {
  std::string path;
  std::string note;  // what to tell the user about a file that was there before; may be empty
};

// Writes the file whole or not at all. A file of the same content is left as it is; another one is
// replaced, or kept and the bytes written beside it: "penguin-0-seed1-2.png".
absl::StatusOr<WrittenFile> WriteResult(const std::string& path, absl::string_view bytes, Existing);

}  // namespace image_variations::client
