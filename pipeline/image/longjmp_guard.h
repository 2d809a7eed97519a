// Turns the longjmp by which libjpeg and libpng leave a call into an absl::Status.
#pragma once

#include <csetjmp>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"

namespace image_variations {

// Lives as long as the C library's object, whose error callback calls Fail. Thread-compatible.
class LongjmpGuard {
 public:
  // Runs `step`, which may hold nothing but calls into the C library: a jump runs no destructors.
  template <typename Step>
  absl::Status Run(Step step) {
    static_assert(std::is_trivially_destructible_v<Step>);
    if (setjmp(jump_) != 0) return error_;
    step();
    return absl::OkStatus();
  }

  // Ends the running step. The caller holds nothing else: no destructor runs there either.
  [[noreturn]] void Fail(absl::Status error) {
    error_ = std::move(error);
    std::longjmp(jump_, 1);
  }

 private:
  std::jmp_buf jump_{};
  absl::Status error_;
};

}  // namespace image_variations
