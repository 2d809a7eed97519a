// Bearer tokens that the server knows, by their hashes.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace image_variations {

// What a caller may ask for: about the server and its model, or for variations as well.
enum class Right { kInspect, kGenerate };

struct Token {
  std::string name;  // whose it is; several tokens may have one, so that they can be exchanged
  absl::Time until = absl::InfiniteFuture();
  Right right = Right::kGenerate;
};

// Immutable. Hashes without salt or stretching: tokens are random, not thought up.
class TokenTable {
 public:
  // One token a line: NAME SHA256 [until=TIME] [may=inspect], where SHA256 is that of the token in
  // hex and TIME as 2027-01-31T00:00:00Z. "#" begins a comment.
  // INVALID_ARGUMENT names the line.
  static absl::StatusOr<TokenTable> Parse(absl::string_view text);

  const Token* Find(absl::string_view token) const;  // nullptr: not known
  size_t size() const { return tokens_.size(); }

 private:
  std::map<std::string, Token, std::less<>> tokens_;  // by hash
};

}  // namespace image_variations
