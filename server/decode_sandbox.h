// Decodes pictures in processes that can do nothing else.
#pragma once

#include <sys/types.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/image/codec.h"
#include "server/listen_socket.h"

namespace image_variations {

// Each picture has a process of its own, forked from one that was forked before there were secrets
// or threads: no file, no network, no other picture, memory and time by resource limits, system
// calls by a seccomp filter. What a picture does to its decoder ends there. Thread-safe.
class DecodeSandbox {
 public:
  using Decoder = absl::StatusOr<Image> (*)(absl::string_view bytes, const DecodeLimits&);

  // To be called before any thread starts. UNAVAILABLE: no process.
  static absl::StatusOr<std::unique_ptr<DecodeSandbox>> Start(Decoder = DecodeImage);
  ~DecodeSandbox();
  DecodeSandbox(const DecodeSandbox&) = delete;
  DecodeSandbox& operator=(const DecodeSandbox&) = delete;

  // As DecodeImage. INTERNAL: the process ended without an answer; the next picture has another.
  absl::StatusOr<Image> Decode(absl::string_view bytes, const DecodeLimits&) const;

 private:
  DecodeSandbox(FileDescriptor control, pid_t forker)
      : control_(std::move(control)), forker_(forker) {}

  const FileDescriptor control_;  // where the forker gets sockets, one for each picture
  const pid_t forker_;
};

}  // namespace image_variations
