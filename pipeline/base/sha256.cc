#include "pipeline/base/sha256.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <new>
#include <utility>

#include "absl/strings/escaping.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {

struct Sha256::Context {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> evp{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  // SHA-256 is always there, so that nothing fails here but an allocation.
  if (context_->evp == nullptr ||
      EVP_DigestInit_ex(context_->evp.get(), EVP_sha256(), nullptr) != 1) {
    ERR_clear_error();  // else the thread's next use of TLS finds it
    throw std::bad_alloc();
  }
}

Sha256::~Sha256() = default;

void Sha256::Update(absl::string_view bytes) {
  IV_CHECK(EVP_DigestUpdate(context_->evp.get(), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::HexDigest() && {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  IV_CHECK(EVP_DigestFinal_ex(context_->evp.get(), digest, &size) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string Sha256OfText(absl::string_view text) {
  Sha256 hash;
  hash.Update(text);
  return std::move(hash).HexDigest();
}

}  // namespace image_variations
