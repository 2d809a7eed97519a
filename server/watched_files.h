// Files that are read again when they change.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace image_variations {

// The whole content of a small file. The status names the path.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

// Tells when files are not those that were last read, by device, inode, size and times: renames,
// edits and the symbolic links of Kubernetes secrets alike. One stat(2) a file, microseconds, so it
// can be asked at every use. Thread-compatible.
class WatchedFiles {
 public:
  explicit WatchedFiles(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  // True at first, and after a change; then false until the next one. Ask before reading: what
  // changes while it is read is a change for the next time.
  bool HaveChanged();

 private:
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = -1;  // -1: not there
    int64_t modified_ns = 0;
    int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  static Stamp StampOf(const std::string& path);

  const std::vector<std::string> paths_;
  std::vector<Stamp> seen_;
};

}  // namespace image_variations
