// JSON web tokens as an issuer makes them, right or wrong.
#pragma once

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "server/openssl_handles.h"

namespace image_variations {

inline std::string Part(absl::string_view text) { return absl::WebSafeBase64Escape(text); }

inline std::string SignSha256(EVP_PKEY& key, const std::string& text) {
  const DigestContextPtr context(EVP_MD_CTX_new());
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  IV_CHECK(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, &key) == 1);
  IV_CHECK(EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) == 1);
  std::string signature(size, '\0');
  IV_CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                          bytes, text.size()) == 1);
  signature.resize(size);
  return signature;
}

inline std::string EcdsaFromDer(const std::string& der) {
  const auto* begin = reinterpret_cast<const unsigned char*>(der.data());
  const std::unique_ptr<ECDSA_SIG, OpenSslDeleter<ECDSA_SIG_free>> pair(
      d2i_ECDSA_SIG(nullptr, &begin, static_cast<long>(der.size())));
  std::string raw(64, '\0');
  auto* bytes = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), bytes, 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), bytes + 32, 32);
  return raw;
}

inline std::string Es256(EVP_PKEY& key, absl::string_view claims,
                         absl::string_view header = R"({"alg":"ES256","typ":"JWT"})") {
  const std::string text = absl::StrCat(Part(header), ".", Part(claims));
  return absl::StrCat(text, ".", Part(EcdsaFromDer(SignSha256(key, text))));
}

}  // namespace image_variations
