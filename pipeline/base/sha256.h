// SHA-256, as lower-case hex.
#pragma once

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

// Takes bytes in pieces. Thread-compatible. Throws std::bad_alloc where memory runs out, as
// containers do.
class Sha256 {
 public:
  Sha256();
  ~Sha256();

  void Update(absl::string_view bytes);
  std::string HexDigest() &&;  // ends it

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256OfText(absl::string_view text);

}  // namespace image_variations
