#include "server/tls.h"

#include <openssl/pem.h>

#include <ctime>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "server/openssl_handles.h"
#include "server/watched_files.h"

namespace image_variations {
namespace {

absl::StatusOr<CertificatePtr> FirstCertificate(const std::string& path, const std::string& pem) {
  CertificatePtr certificate(PEM_read_bio_X509(ReadBio(pem).get(), nullptr, NoPassphrase, nullptr));
  if (certificate == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no PEM certificate"));
  }
  return certificate;
}

absl::Time ExpiryOf(const X509& certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) return absl::InfinitePast();
  return absl::FromTM(time, absl::UTCTimeZone());
}

// Keeps what was last in order. One thread at a time.
class TlsReloader {
 public:
  explicit TlsReloader(TlsFiles files)
      : files_(std::move(files)), watched_({files_.certificate, files_.key, files_.client_ca}) {}

  // The files' content when it has changed and is in order.
  std::optional<TlsMaterial> Changed() {
    if (!watched_.HaveChanged()) return std::nullopt;
    absl::StatusOr<TlsMaterial> material = ReadTlsFiles(files_);
    if (!material.ok()) {
      Log(Severity::kError, "TLS files are not in order: what they held before goes on",
          {{"why", material.status().message()}});
      return std::nullopt;
    }
    Log(Severity::kInfo, "TLS files loaded",
        {{"certificate", files_.certificate},
         {"expires", absl::FormatTime(material->expires, absl::UTCTimeZone())}});
    return *std::move(material);
  }

  bool verifies_callers() const { return !files_.client_ca.empty(); }

 private:
  const TlsFiles files_;
  WatchedFiles watched_;
};

// grpc_ssl_server_certificate_config_callback
grpc_ssl_certificate_config_reload_status Fetch(void* reloader,
                                                grpc_ssl_server_certificate_config** config) {
  const std::optional<TlsMaterial> material = static_cast<TlsReloader*>(reloader)->Changed();
  if (!material) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair{material->key.c_str(), material->certificate.c_str()};
  // gRPC wants authorities also when callers are not asked for certificates: any will do then.
  const std::string& authorities =
      material->client_ca.empty() ? material->certificate : material->client_ca;
  *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// gRPC's C++ API has reloading only in its experimental part, which gives up what works when a file
// is broken; the C API beneath it keeps that and lets us check first.
class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingCredentials(TlsFiles files) : reloader_(std::move(files)) {
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            reloader_.verifies_callers()
                ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            Fetch, &reloader_));
  }
  ~ReloadingCredentials() override { grpc_server_credentials_release(credentials_); }
  ReloadingCredentials(const ReloadingCredentials&) = delete;
  ReloadingCredentials& operator=(const ReloadingCredentials&) = delete;

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    IV_CHECK(false);  // callers are identified in server/authenticator.h
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  TlsReloader reloader_;
  grpc_server_credentials* credentials_;
};

}  // namespace

absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles& files) {
  const OpenSslErrorScope errors;
  TlsMaterial material;
  ASSIGN_OR_RETURN(material.certificate, ReadSmallFile(files.certificate));
  ASSIGN_OR_RETURN(material.key, ReadSmallFile(files.key));
  ASSIGN_OR_RETURN(const CertificatePtr certificate,
                   FirstCertificate(files.certificate, material.certificate));
  const KeyPtr key(
      PEM_read_bio_PrivateKey(ReadBio(material.key).get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.key, ": no PEM private key without passphrase"));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.key, ": not the key of the first certificate in ", files.certificate));
  }
  if (!files.client_ca.empty()) {
    ASSIGN_OR_RETURN(material.client_ca, ReadSmallFile(files.client_ca));
    RETURN_IF_ERROR(FirstCertificate(files.client_ca, material.client_ca).status());
  }
  material.expires = ExpiryOf(*certificate);
  return material;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const TlsFiles& files) {
  RETURN_IF_ERROR(ReadTlsFiles(files).status());
  return std::make_shared<ReloadingCredentials>(files);
}

}  // namespace image_variations
