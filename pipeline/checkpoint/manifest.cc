#include "pipeline/checkpoint/manifest.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"

namespace image_variations {
namespace {

constexpr int64_t kMaxManifestBytes = 1 << 20;

bool IsSha256(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char digit) {
           return absl::ascii_isdigit(static_cast<unsigned char>(digit)) ||
                  (digit >= 'a' && digit <= 'f');
         });
}

}  // namespace

absl::StatusOr<Manifest> Manifest::Read(const std::string& model_folder) {
  const std::filesystem::path path = std::filesystem::path(model_folder) / "manifest.json";
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) return Manifest();
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path.string(), kMaxManifestBytes));
  return Parse(path.string(), text);
}

absl::StatusOr<Manifest> Manifest::Parse(const std::string& path, absl::string_view text) {
  Manifest manifest;
  ConfigReader in(text);
  manifest.path_ = path;
  manifest.sums_.emplace();
  for (const std::string& file : in.keys()) {
    const std::string sum = in.String(file, "");
    if (!IsSha256(sum)) in.Fail(absl::StrCat(file, " has no sha256 sum of 64 hex digits"));
    (*manifest.sums_)[file] = sum;
  }
  if (in.status().ok()) return manifest;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", in.status().message()));
}

absl::Status Manifest::Check(absl::string_view file, absl::string_view sha256) const {
  if (!sums_) return absl::OkStatus();
  const auto found = sums_->find(file);
  if (found != sums_->end() && found->second == sha256) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path_, ": ", file,
      found == sums_->end() ? " is not listed" : absl::StrCat(" has sha256 ", found->second),
      ", the file has ", sha256));
}

}  // namespace image_variations
