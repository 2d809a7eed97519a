#include "server/json_web_token.h"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/json_value.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr size_t kMaxTokenBytes = 8 << 10;
constexpr int kMaxDepth = 8;
constexpr int kMinRsaBits = 2048;
constexpr size_t kP256Bytes = 32;                         // of each half of a signature
constexpr absl::Duration kClockSkew = absl::Seconds(30);  // between issuer and server

using SignaturePtr = std::unique_ptr<ECDSA_SIG, OpenSslDeleter<ECDSA_SIG_free>>;

absl::Status Refuse(absl::string_view why) { return absl::UnauthenticatedError(why); }

// "" for a key of a kind that is not taken.
absl::string_view AlgorithmOf(const EVP_PKEY& key) {
  if (EVP_PKEY_get_base_id(&key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(&key) >= kMinRsaBits) {
    return "RS256";
  }
  char curve[32] = "";
  if (EVP_PKEY_get_base_id(&key) == EVP_PKEY_EC &&
      EVP_PKEY_get_group_name(&key, curve, sizeof curve, nullptr) == 1 &&
      absl::string_view(curve) == "prime256v1") {
    return "ES256";
  }
  return "";
}

// base64url without padding, as RFC 7515 has it.
absl::StatusOr<std::string> DecodePart(absl::string_view part) {
  const bool is_clean = std::all_of(part.begin(), part.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
  std::string bytes;
  if (!is_clean || !absl::WebSafeBase64Unescape(part, &bytes)) return Refuse("not base64url");
  return bytes;
}

absl::StatusOr<JsonValue> DecodeObject(absl::string_view part) {
  ASSIGN_OR_RETURN(const std::string text, DecodePart(part));
  absl::StatusOr<JsonValue> object = ParseStrictJson(text, kMaxDepth);
  if (!object.ok() || object->AsObject() == nullptr) return Refuse("not a JSON object");
  return object;
}

// "" when it is not there or no string.
std::string Text(const JsonValue& object, absl::string_view key) {
  const JsonValue* value = object.Find(key);
  return value != nullptr && value->AsString() != nullptr ? *value->AsString() : "";
}

std::optional<absl::Time> Time(const JsonValue& object, absl::string_view key) {
  const JsonValue* value = object.Find(key);
  const std::optional<double> seconds = value == nullptr ? std::nullopt : value->AsNumber();
  if (!seconds || !(*seconds >= 0 && *seconds < 1e12)) return std::nullopt;
  return absl::UnixEpoch() + absl::Seconds(*seconds);
}

bool IsFor(const JsonValue& claims, const std::string& audience) {
  const JsonValue* value = claims.Find("aud");
  if (value == nullptr) return false;
  const JsonValue wanted(audience);
  if (const JsonValue::Array* all = value->AsArray()) {
    return std::find(all->begin(), all->end(), wanted) != all->end();
  }
  return *value == wanted;
}

// JWS has the two numbers of an ECDSA signature side by side, OpenSSL wants them in DER.
std::string DerOfEcdsa(const std::string& signature) {
  if (signature.size() != 2 * kP256Bytes) return "";
  const auto* bytes = reinterpret_cast<const unsigned char*>(signature.data());
  const SignaturePtr pair(ECDSA_SIG_new());
  ECDSA_SIG_set0(pair.get(), BN_bin2bn(bytes, kP256Bytes, nullptr),
                 BN_bin2bn(bytes + kP256Bytes, kP256Bytes, nullptr));
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(pair.get(), &der);
  if (size <= 0) return "";
  std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return out;
}

bool VerifySha256(EVP_PKEY& key, absl::string_view text, const std::string& signature) {
  const DigestContextPtr context(EVP_MD_CTX_new());
  const auto bytes = [](absl::string_view all) {
    return reinterpret_cast<const unsigned char*>(all.data());
  };
  return EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, &key) == 1 &&
         EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(text),
                          text.size()) == 1;
}

}  // namespace

absl::StatusOr<TokenVerifier> TokenVerifier::Make(const std::string& keys, std::string issuer,
                                                  std::string audience) {
  const OpenSslErrorScope errors;
  TokenVerifier verifier;
  verifier.issuer_ = std::move(issuer);
  verifier.audience_ = std::move(audience);
  const BioPtr bio = ReadBio(keys);
  while (EVP_PKEY* key = PEM_read_bio_PUBKEY(bio.get(), nullptr, NoPassphrase, nullptr)) {
    verifier.keys_.emplace_back(key);
    if (AlgorithmOf(*key).empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "key ", verifier.keys_.size(), " is neither RSA of at least 2048 bits nor P-256"));
    }
  }
  if (verifier.keys_.empty()) return absl::InvalidArgumentError("no PEM public key");
  return verifier;
}

absl::StatusOr<TokenClaims> TokenVerifier::Verify(absl::string_view token, absl::Time now) const {
  if (token.size() > kMaxTokenBytes) return Refuse("longer than 8 KiB");
  const std::vector<absl::string_view> parts = absl::StrSplit(token, '.');
  if (parts.size() != 3) return Refuse("not three parts");
  ASSIGN_OR_RETURN(const JsonValue header, DecodeObject(parts[0]));
  if (header.Find("crit") != nullptr) return Refuse("it has extensions that are not known here");
  ASSIGN_OR_RETURN(const std::string signature, DecodePart(parts[2]));
  if (!IsSigned(Text(header, "alg"), token.substr(0, parts[0].size() + 1 + parts[1].size()),
                signature)) {
    return Refuse("not signed by a known key");
  }

  ASSIGN_OR_RETURN(const JsonValue claims, DecodeObject(parts[1]));
  if (Text(claims, "iss") != issuer_) return Refuse("from another issuer");
  if (!IsFor(claims, audience_)) return Refuse("for another audience");
  const std::optional<absl::Time> until = Time(claims, "exp");
  if (!until) return Refuse("it does not say until when it is valid");
  if (now >= *until + kClockSkew) return Refuse("expired");
  const bool has_begin = claims.Find("nbf") != nullptr;
  const std::optional<absl::Time> from = Time(claims, "nbf");
  if (has_begin && !(from && now >= *from - kClockSkew)) return Refuse("not valid yet");
  const std::string subject = Text(claims, "sub");
  if (subject.empty()) return Refuse("it does not say whose it is");
  return TokenClaims{
      .subject = subject,
      .scopes = absl::StrSplit(Text(claims, "scope"), ' ', absl::SkipEmpty()),
  };
}

bool TokenVerifier::IsSigned(absl::string_view algorithm, absl::string_view signed_part,
                             const std::string& signature) const {
  const OpenSslErrorScope errors;
  return std::any_of(keys_.begin(), keys_.end(), [&](const KeyPtr& key) {
    if (algorithm.empty() || algorithm != AlgorithmOf(*key)) return false;
    return VerifySha256(*key, signed_part,
                        algorithm == "ES256" ? DerOfEcdsa(signature) : signature);
  });
}

bool LooksLikeJsonWebToken(absl::string_view token) {
  return std::count(token.begin(), token.end(), '.') == 2;
}

}  // namespace image_variations
