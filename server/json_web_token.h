// Signed JSON web tokens (RFC 7519) of one issuer.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/openssl_handles.h"

namespace image_variations {

// What the issuer says of a caller.
struct TokenClaims {
  std::string subject;
  std::vector<std::string> scopes;
};

// RS256 (RSA of 2048 bits or more) and ES256 (P-256), by the kind of the key and never by the
// token's word alone. Immutable.
//
// Written here because Debian's libcpp-jwt 1.4 ends the process at the header {"alg":5} and knows
// no list of audiences. The signatures are OpenSSL's.
class TokenVerifier {
 public:
  // `keys`: PEM public keys; several, so that they can be exchanged. INVALID_ARGUMENT: no key, or
  // one of another kind.
  static absl::StatusOr<TokenVerifier> Make(const std::string& keys, std::string issuer,
                                            std::string audience);

  // Requires iss, aud, exp and sub; takes nbf into account. UNAUTHENTICATED says what is wrong.
  absl::StatusOr<TokenClaims> Verify(absl::string_view token, absl::Time now) const;

 private:
  bool IsSigned(absl::string_view algorithm, absl::string_view signed_part,
                const std::string& signature) const;

  std::vector<KeyPtr> keys_;
  std::string issuer_;
  std::string audience_;
};

// Whether it has the form of one: three parts between two dots.
bool LooksLikeJsonWebToken(absl::string_view token);

}  // namespace image_variations
