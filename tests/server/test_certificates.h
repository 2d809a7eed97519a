// Certificates for tests, made when they are needed.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "server/openssl_handles.h"

namespace image_variations {

// PEM.
struct KeyPair {
  std::string certificate;
  std::string key;
};

struct Validity {
  absl::Duration begins_in = -absl::Hours(1);
  absl::Duration ends_in = absl::Hours(1);
};

inline constexpr Validity kExpired{.begins_in = -absl::Hours(2), .ends_in = -absl::Hours(1)};

// Signs certificates for P-256 keys.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);

  const std::string& certificate() const { return certificate_pem_; }
  // For server and client alike; names: DNS:`name`, DNS:localhost and the address 127.0.0.1.
  KeyPair Issue(const std::string& name, const Validity& = {}) const;

 private:
  KeyPtr key_;
  CertificatePtr certificate_;
  std::string certificate_pem_;
};

KeyPtr NewEcKey();
std::string PrivateKeyPem(EVP_PKEY&);
std::string PublicKeyPem(EVP_PKEY&);

}  // namespace image_variations
