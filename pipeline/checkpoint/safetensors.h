// A safetensors file (8-byte little-endian header length, JSON header, raw little-endian data),
// validated and mapped.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "pipeline/checkpoint/safetensors_header.h"

namespace image_variations {

class File;

// A tensor inside the mapping; valid as long as its SafetensorsFile lives. Row-major,
// little-endian. The format does not align tensors: `bytes` may begin at any address, so copy
// elements out of it, or check.
struct TensorView {
  TensorType type = TensorType::kFloat32;
  std::vector<int64_t> shape;
  absl::Span<const char> bytes;
};

// Immutable after Open; thread-safe. Copies share the mapping, which is read-only and shared with
// the page cache: replace files by renaming, a file cut short under a mapping faults its readers.
class SafetensorsFile {
 public:
  // Accepts what the specification of the format does. INVALID_ARGUMENT with path and reason: not a
  // safetensors file, truncated, overlapping or gapped data, an element type not in TensorType, a
  // git-LFS pointer. NOT_FOUND: no such file (a dangling link names its target).
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  SafetensorsFile(const SafetensorsFile&) = default;
  SafetensorsFile& operator=(const SafetensorsFile&) = default;
  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  absl::StatusOr<TensorView> Find(absl::string_view name) const;  // NOT_FOUND names tensor and file
  std::vector<std::string> names() const;                         // sorted
  const std::string& path() const { return path_; }
  // SHA-256 of the whole file, lower-case hex. The resident set grows by a few megabytes at most.
  std::string Sha256() const;

  // Tells the kernel that these pages will not be read again: they leave this process's resident
  // set. Reading them later is allowed and brings them back.
  static void Release(const TensorView&);

 private:
  class Mapping;

  SafetensorsFile() = default;
  absl::Status MapAndParse(const File&);

  std::string path_;
  std::shared_ptr<const Mapping> mapping_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

}  // namespace image_variations
