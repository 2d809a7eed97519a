#include "server/authenticator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "grpc/grpc_security_constants.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

constexpr char kScheme[] = "bearer ";
constexpr size_t kMaxOwnName = 64;

absl::Status Invalid(absl::string_view why) {
  return MakeError(absl::StatusCode::kUnauthenticated, reason::kTokenInvalid,
                   absl::StrCat("the token is not accepted: ", why), {{"why", std::string(why)}});
}

absl::Status NotAllowed(const std::string& caller, absl::string_view what) {
  return MakeError(absl::StatusCode::kPermissionDenied, reason::kNotAllowed,
                   absl::StrCat(caller, " may not ", what), {{"caller", caller}});
}

absl::StatusOr<absl::string_view> TokenOf(const Presented& presented) {
  if (presented.authorizations.empty()) {
    return MakeError(absl::StatusCode::kUnauthenticated, reason::kTokenMissing,
                     "no token: send the metadata \"authorization: Bearer TOKEN\"");
  }
  if (presented.authorizations.size() > 1) return Invalid("there are several");
  absl::string_view token = presented.authorizations.front();
  if (!absl::StartsWithIgnoreCase(token, kScheme)) return Invalid("the scheme is not Bearer");
  token.remove_prefix(sizeof kScheme - 1);
  return absl::StripAsciiWhitespace(token);
}

bool Contains(const std::vector<std::string>& all, const std::string& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// The name by which a certificate's owner may call, "" for none.
std::string AllowedName(const std::vector<std::string>& names,
                        const std::vector<std::string>& allowed) {
  if (names.empty()) return "";
  if (allowed.empty()) return names.front();
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&](const std::string& name) { return Contains(allowed, name); });
  return found == names.end() ? "" : *found;
}

bool IsOwnName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxOwnName && std::ranges::all_of(name, [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-_.:/@", c);
  });
}

// What the caller calls itself under `key`.
absl::StatusOr<Caller> IdentifyByItself(const std::vector<std::string>& names,
                                        const std::string& key) {
  if (names.size() == 1 && IsOwnName(names.front())) {
    return Caller{.name = absl::StrCat("metadata:", names.front())};
  }
  const std::string limit =
      absl::StrCat("one value of 1 to ", kMaxOwnName, " letters, digits and -_.:/@");
  return MakeFieldError(
      reason::kInvalidField,
      {{.field = absl::StrCat("metadata ", key),
        .value = absl::StrCat(names.size(), names.size() == 1 ? " value" : " values"),
        .limit = limit,
        .message = absl::StrCat("must be ", limit)}});
}

std::vector<std::string> MetadataOf(const grpc::CallbackServerContext& context,
                                    const std::string& key) {
  std::vector<std::string> values;
  const auto [begin, end] = context.client_metadata().equal_range(key);
  for (auto value = begin; value != end; ++value) {
    values.emplace_back(value->second.data(), value->second.size());
  }
  return values;
}

std::vector<std::string> Values(const grpc::AuthContext& context, const char* property) {
  std::vector<std::string> values;
  for (const grpc::string_ref& value : context.FindPropertyValues(property)) {
    values.emplace_back(value.data(), value.size());
  }
  return values;
}

}  // namespace

Presented PresentedBy(const grpc::CallbackServerContext& context,
                      const std::string& caller_metadata) {
  Presented presented;
  presented.authorizations = MetadataOf(context, "authorization");
  if (!caller_metadata.empty()) presented.own_names = MetadataOf(context, caller_metadata);
  if (const auto auth = context.auth_context(); auth != nullptr && auth->IsPeerAuthenticated()) {
    presented.certificate_names = Values(*auth, GRPC_X509_SAN_PROPERTY_NAME);
    if (presented.certificate_names.empty()) {
      presented.certificate_names = Values(*auth, GRPC_X509_CN_PROPERTY_NAME);
    }
  }
  const std::string peer = context.peer();  // "ipv4:127.0.0.1:4242"
  presented.address = peer.substr(0, peer.rfind(':'));
  return presented;
}

Authenticator::Authenticator(AuthenticatorOptions options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      files_({options_.token_file, options_.jwt_keys}) {}

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Make(AuthenticatorOptions options,
                                                                   const Clock& clock) {
  std::unique_ptr<Authenticator> authenticator(new Authenticator(std::move(options), clock));
  absl::MutexLock lock(&authenticator->mutex_);
  authenticator->files_.HaveChanged();
  RETURN_IF_ERROR(authenticator->Reload());
  return authenticator;
}

absl::StatusOr<Caller> Authenticator::Identify(const Presented& presented, Right needed) {
  Caller caller{.name = absl::StrCat("address:", presented.address)};
  if (!presented.certificate_names.empty()) {
    const std::string name = AllowedName(presented.certificate_names, options_.client_names);
    if (name.empty()) {
      return NotAllowed(
          absl::StrCat("certificate:", absl::StrJoin(presented.certificate_names, ",")), "call");
    }
    caller.name = absl::StrCat("certificate:", name);
  }
  if (options_.wants_tokens()) {
    ASSIGN_OR_RETURN(caller, IdentifyByToken(presented));
  } else if (presented.certificate_names.empty() && !presented.own_names.empty()) {
    ASSIGN_OR_RETURN(caller, IdentifyByItself(presented.own_names, options_.caller_metadata));
  }
  if (needed == Right::kGenerate && caller.right != Right::kGenerate) {
    return NotAllowed(caller.name, "ask for variations");
  }
  return caller;
}

absl::Status Authenticator::Reload() {
  std::shared_ptr<const TokenTable> tokens;
  std::shared_ptr<const TokenVerifier> jwt;
  if (!options_.token_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(options_.token_file));
    absl::StatusOr<TokenTable> table = TokenTable::Parse(text);
    if (!table.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(options_.token_file, ": ", table.status().message()));
    }
    tokens = std::make_shared<const TokenTable>(*std::move(table));
  }
  if (!options_.jwt_keys.empty()) {
    ASSIGN_OR_RETURN(const std::string keys, ReadSmallFile(options_.jwt_keys));
    auto verifier = TokenVerifier::Make(keys, options_.jwt_issuer, options_.jwt_audience);
    if (!verifier.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(options_.jwt_keys, ": ", verifier.status().message()));
    }
    jwt = std::make_shared<const TokenVerifier>(*std::move(verifier));
  }
  tokens_ = std::move(tokens);
  jwt_ = std::move(jwt);
  return absl::OkStatus();
}

void Authenticator::ReloadIfChanged() {
  if (!files_.HaveChanged()) return;
  if (const absl::Status loaded = Reload(); !loaded.ok()) {
    Log(Severity::kError, "tokens or keys are not in order: what they held before goes on",
        {{"why", loaded.message()}});
  } else {
    Log(Severity::kInfo, "tokens and keys loaded",
        {{"tokens", tokens_ == nullptr ? 0 : static_cast<int64_t>(tokens_->size())}});
  }
}

absl::StatusOr<Caller> Authenticator::IdentifyByToken(const Presented& presented) {
  ASSIGN_OR_RETURN(const absl::string_view token, TokenOf(presented));
  std::shared_ptr<const TokenTable> tokens;
  std::shared_ptr<const TokenVerifier> jwt;
  {
    absl::MutexLock lock(&mutex_);
    ReloadIfChanged();
    tokens = tokens_;
    jwt = jwt_;
  }
  if (jwt != nullptr && (tokens == nullptr || LooksLikeJsonWebToken(token))) {
    return IdentifyByJwt(token, *jwt);
  }
  return IdentifyByTable(token, *tokens);
}

absl::StatusOr<Caller> Authenticator::IdentifyByJwt(absl::string_view token,
                                                    const TokenVerifier& verifier) const {
  const absl::StatusOr<TokenClaims> claims = verifier.Verify(token, clock_.Now());
  if (!claims.ok()) return Invalid(claims.status().message());
  const bool may_generate =
      options_.jwt_scope.empty() || Contains(claims->scopes, options_.jwt_scope);
  return Caller{.name = absl::StrCat("jwt:", claims->subject),
                .right = may_generate ? Right::kGenerate : Right::kInspect};
}

absl::StatusOr<Caller> Authenticator::IdentifyByTable(absl::string_view token,
                                                      const TokenTable& tokens) const {
  const Token* found = tokens.Find(token);
  if (found == nullptr) return Invalid("not known");
  if (clock_.Now() >= found->until) return Invalid("expired");
  return Caller{.name = absl::StrCat("token:", found->name), .right = found->right};
}

}  // namespace image_variations
