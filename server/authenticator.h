// Says who makes a call: by bearer token, by client certificate, by what it says itself where it is
// believed, or by address alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server_context.h"
#include "pipeline/base/clock.h"
#include "server/json_web_token.h"
#include "server/token_table.h"
#include "server/watched_files.h"

namespace image_variations {

// With neither tokens nor keys, nobody needs a token. The files are read again when they change;
// when they are not in order then, what they held before goes on.
struct AuthenticatorOptions {
  std::string token_file;  // TokenTable's
  std::string jwt_keys;    // TokenVerifier's, of this issuer and audience
  std::string jwt_issuer;
  std::string jwt_audience;
  std::string jwt_scope;                  // needed for Right::kGenerate; empty: none
  std::vector<std::string> client_names;  // of certificates that may call; empty: all that verify
  // Metadata key by which callers name themselves, where nothing better names them. They are
  // believed: for fairness and limits between those who are trusted, as by a proxy that sets it.
  std::string caller_metadata;

  bool wants_tokens() const { return !token_file.empty() || !jwt_keys.empty(); }
};

// What a call shows of its caller.
struct Presented {
  std::vector<std::string> authorizations;     // values of the metadata key
  std::vector<std::string> certificate_names;  // of a verified certificate: DNS, URI, ... or CN
  std::vector<std::string> own_names;          // values of caller_metadata's key
  std::string address;                         // without port
};

Presented PresentedBy(const grpc::CallbackServerContext&, const std::string& caller_metadata);

struct Caller {
  // "token:NAME", "jwt:SUBJECT", "certificate:NAME", "metadata:NAME" or "address:IP"
  std::string name;
  Right right = Right::kGenerate;
};

// Thread-safe.
class Authenticator {
 public:
  // INVALID_ARGUMENT, NOT_FOUND: a file is not in order or not there.
  static absl::StatusOr<std::unique_ptr<Authenticator>> Make(AuthenticatorOptions, const Clock&);

  // UNAUTHENTICATED: TOKEN_MISSING, TOKEN_INVALID. PERMISSION_DENIED, NOT_ALLOWED: the caller is
  // known, and may not ask for this. INVALID_ARGUMENT, INVALID_FIELD: it names itself, and not
  // well.
  absl::StatusOr<Caller> Identify(const Presented&, Right needed) ABSL_LOCKS_EXCLUDED(mutex_);
  const std::string& caller_metadata() const { return options_.caller_metadata; }

 private:
  Authenticator(AuthenticatorOptions, const Clock&);
  absl::Status Reload() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReloadIfChanged() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Caller> IdentifyByToken(const Presented&) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Caller> IdentifyByJwt(absl::string_view token, const TokenVerifier&) const;
  absl::StatusOr<Caller> IdentifyByTable(absl::string_view token, const TokenTable&) const;

  const AuthenticatorOptions options_;
  const Clock& clock_;
  absl::Mutex mutex_;
  WatchedFiles files_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const TokenTable> tokens_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const TokenVerifier> jwt_ ABSL_GUARDED_BY(mutex_);  // nullptr: not taken
};

}  // namespace image_variations
