// What callers say of themselves, and the file of tokens; the first byte says which. Nobody is let
// in without a token that the issuer has signed or the file has.
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "server/authenticator.h"
#include "server/trace_context.h"
#include "tests/server/signed_token.h"
#include "tests/server/test_certificates.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

constexpr char kIssuer[] = "https://issuer.example";
constexpr char kAudience[] = "image-variations";
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

struct Issuer {
  KeyPtr key = NewEcKey();
  TokenVerifier verifier = TokenVerifier::Make(PublicKeyPem(*key), kIssuer, kAudience).value();
};

// Tokens of that issuer, or of a file that nobody has the token of.
std::unique_ptr<Authenticator> MakeAuthenticator(const Issuer& issuer) {
  static const RealClock& clock = *new RealClock;
  const TemporaryFolder folder;
  return Authenticator::Make(
             {.token_file = folder.Write("tokens", absl::StrCat("a ", std::string(64, '0'), "\n")),
              .jwt_keys = folder.Write("keys", PublicKeyPem(*issuer.key)),
              .jwt_issuer = kIssuer,
              .jwt_audience = kAudience},
             clock)
      .value();
}

void CheckClaims(const absl::StatusOr<TokenClaims>& claims) {
  IV_CHECK(claims.ok() ? !claims->subject.empty() : !claims.status().message().empty());
}

void CheckTokenFile(absl::string_view text) {
  const absl::StatusOr<TokenTable> table = TokenTable::Parse(text);
  IV_CHECK(table.ok() || !table.status().message().empty());
  if (table.ok()) IV_CHECK(table->Find(text) == nullptr);
}

void CheckTrace(absl::string_view text) {
  const TraceContext trace = ContinueTrace(text);
  IV_CHECK(trace.ToTraceparent().size() == 55);
  IV_CHECK(ContinueTrace(trace.ToTraceparent()).trace_id == trace.trace_id);
}

}  // namespace
}  // namespace image_variations

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  static const Issuer& issuer = *new Issuer;
  static Authenticator& authenticator = *MakeAuthenticator(issuer).release();
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  switch (bytes[0]) {
    case 'a':
      IV_CHECK(!authenticator.Identify({.authorizations = {text}}, Right::kInspect).ok());
      break;
    case 't':
      IV_CHECK(!issuer.verifier.Verify(text, kNow).ok());
      break;
    case 'c':
      CheckClaims(issuer.verifier.Verify(Es256(*issuer.key, text), kNow));
      break;
    case 'h':
      CheckClaims(issuer.verifier.Verify(Es256(*issuer.key, "{}", text), kNow));
      break;
    case 'f':
      CheckTokenFile(text);
      break;
    case 'p':
      CheckTrace(text);
      break;
    default:
      break;
  }
  return 0;
}
