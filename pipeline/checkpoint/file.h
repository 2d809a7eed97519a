// Opening a checkpoint's files with messages that say what is wrong with them on disk.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace image_variations {

// A regular file open for reading. Movable; closes itself. Thread-compatible.
class File {
 public:
  // NOT_FOUND: nothing there, or a link whose target is missing (hubs keep files as links into a
  // store that a container may not have mounted). INVALID_ARGUMENT: not a regular file, empty, or a
  // loop of links. Messages begin with the path.
  static absl::StatusOr<File> Open(const std::string& path);

  File(File&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  File& operator=(File&&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  int64_t size() const { return size_; }

  // Reads from the current position until the buffer is full or the file ends; returns the bytes
  // read.
  absl::StatusOr<int64_t> Read(absl::Span<char> buffer);

 private:
  File(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_;
  int64_t size_;
};

// The whole of a small file. INVALID_ARGUMENT above max_bytes and for git-LFS pointers.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);

// INVALID_ARGUMENT when a file's first bytes are those of a git-LFS pointer: a clone made without
// LFS has these in place of the weights.
absl::Status CheckNotLfsPointer(absl::string_view first_bytes);

}  // namespace image_variations
