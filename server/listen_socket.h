// A bound, listening TCP socket.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace image_variations {

// A file descriptor, closed on destruction; -1: none. Movable; thread-compatible.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { Close(); }

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  void Close();

 private:
  int fd_ = -1;
};

struct ListenSocket {
  // HOST:PORT; port 0 takes a free one, a host name stands for the first of its addresses.
  // INVALID_ARGUMENT: not HOST:PORT, or no such host. UNAVAILABLE: cannot be bound, with the
  // system's reason.
  static absl::StatusOr<ListenSocket> Open(const std::string& address);

  FileDescriptor fd;        // does not block
  std::string address;      // as it was given, with the port that was taken
  std::string numeric;      // with the host as a number
  bool is_loopback = true;  // only this machine can reach it
};

}  // namespace image_variations
