#include "tests/server/test_certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

std::string Content(const BioPtr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string CertificatePem(X509& certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  IV_CHECK(PEM_write_bio_X509(bio.get(), &certificate) == 1);
  return Content(bio);
}

void AddExtension(X509& certificate, X509& issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  IV_CHECK(extension != nullptr && X509_add_ext(&certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Without issuer, extensions and signature.
CertificatePtr NewCertificate(const std::string& name, EVP_PKEY& key, const Validity& validity) {
  static std::atomic<int> serial = 1;
  CertificatePtr certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), absl::ToInt64Seconds(validity.begins_in));
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), absl::ToInt64Seconds(validity.ends_in));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_pubkey(certificate.get(), &key);
  return certificate;
}

}  // namespace

CertificateAuthority::CertificateAuthority(const std::string& name) : key_(NewEcKey()) {
  certificate_ = NewCertificate(name, *key_, {});
  X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
  AddExtension(*certificate_, *certificate_, NID_basic_constraints, "critical,CA:TRUE");
  IV_CHECK(X509_sign(certificate_.get(), key_.get(), EVP_sha256()) > 0);
  certificate_pem_ = CertificatePem(*certificate_);
}

KeyPair CertificateAuthority::Issue(const std::string& name, const Validity& validity) const {
  const KeyPtr key = NewEcKey();
  const CertificatePtr certificate = NewCertificate(name, *key, validity);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
  AddExtension(*certificate, *certificate_, NID_subject_alt_name,
               absl::StrCat("DNS:", name, ",DNS:localhost,IP:127.0.0.1"));
  IV_CHECK(X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0);
  return {CertificatePem(*certificate), PrivateKeyPem(*key)};
}

KeyPtr NewEcKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  IV_CHECK(key != nullptr);
  return key;
}

std::string PrivateKeyPem(EVP_PKEY& key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  IV_CHECK(PEM_write_bio_PrivateKey(bio.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return Content(bio);
}

std::string PublicKeyPem(EVP_PKEY& key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  IV_CHECK(PEM_write_bio_PUBKEY(bio.get(), &key) == 1);
  return Content(bio);
}

}  // namespace image_variations
