// Decodes pictures in processes that can do nothing else.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/functional/any_invocable.h"
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
  // UNAVAILABLE: there will be none.
  absl::StatusOr<Image> Decode(absl::string_view bytes, const DecodeLimits&) const;

  // Once, and where threads may start: calls `on_lost` on a thread of its own when the process that
  // the others come from is gone. No picture can be decoded then, ever again.
  void Watch(absl::AnyInvocable<void()> on_lost);

 private:
  DecodeSandbox(FileDescriptor control, pid_t forker)
      : control_(std::move(control)), forker_(forker) {}

  const FileDescriptor control_;  // where the forker gets sockets, one for each picture
  const pid_t forker_;
  std::atomic<bool> is_closing_ = false;
  std::thread watcher_;
};

}  // namespace image_variations
