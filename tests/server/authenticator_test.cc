#include "server/authenticator.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/sha256.h"
#include "server/rpc_status.h"
#include "tests/support/simulated_clock.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class AuthenticatorTest : public ::testing::Test {
 protected:
  std::string TokenFile(const std::string& text) { return folder_.Write("tokens", text); }
  std::unique_ptr<Authenticator> Make(AuthenticatorOptions options) {
    return Authenticator::Make(std::move(options), clock_).value();
  }

  TemporaryFolder folder_;
  SimulatedClock clock_{kNow};
};

Presented Bearer(const std::string& token) {
  return {
      .authorizations = {"Bearer " + token}, .certificate_names = {}, .address = "ipv4:10.0.0.1"};
}

std::string LineFor(const std::string& token, const std::string& name,
                    const std::string& more = "") {
  return absl::StrCat(name, " ", Sha256OfText(token), " ", more, "\n");
}

TEST_F(AuthenticatorTest, WithoutTokensTheAddressIsTheCaller) {
  const auto caller = Make({})->Identify({.address = "ipv4:10.0.0.1"}, Right::kGenerate);
  EXPECT_EQ(caller->name, "address:ipv4:10.0.0.1");
}

TEST_F(AuthenticatorTest, CallersNameThemselvesWhereNothingBetterDoes) {
  const Presented presented{.own_names = {"team-a/job.7"}, .address = "ipv4:10.0.0.1"};
  const AuthenticatorOptions believing{.caller_metadata = "x-caller"};
  EXPECT_EQ(Make(believing)->Identify(presented, Right::kGenerate)->name, "metadata:team-a/job.7");
  Presented with_certificate = presented;
  with_certificate.certificate_names = {"a.example"};
  EXPECT_EQ(Make(believing)->Identify(with_certificate, Right::kGenerate)->name,
            "certificate:a.example");
  AuthenticatorOptions with_tokens = believing;
  with_tokens.token_file = TokenFile(LineFor("secret", "alice"));
  Presented with_token = presented;
  with_token.authorizations = {"Bearer secret"};
  EXPECT_EQ(Make(with_tokens)->Identify(with_token, Right::kGenerate)->name, "token:alice");
  EXPECT_EQ(Make(believing)->Identify({.address = "ipv4:10.0.0.1"}, Right::kGenerate)->name,
            "address:ipv4:10.0.0.1");
}

TEST_F(AuthenticatorTest, WhatIsNoNameIsRefused) {
  const auto authenticator = Make({.caller_metadata = "x-caller"});
  const std::vector<std::vector<std::string>> cases = {
      {""}, {"a b"}, {"line\n"}, {"na\xc3\xafve"}, {std::string(65, 'a')}, {"a", "b"}};
  for (const auto& names : cases) {
    const absl::Status status =
        authenticator->Identify({.own_names = names}, Right::kInspect).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << names[0];
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD") << names[0];
  }
  EXPECT_TRUE(authenticator->Identify({.own_names = {std::string(64, 'a')}}, Right::kInspect).ok());
}

TEST_F(AuthenticatorTest, TokenNamesItsCaller) {
  const auto authenticator = Make({.token_file = TokenFile(LineFor("secret", "alice"))});
  EXPECT_EQ(authenticator->Identify(Bearer("secret"), Right::kGenerate)->name, "token:alice");
  Presented lower = Bearer("secret");
  lower.authorizations = {"bearer  secret "};
  EXPECT_TRUE(authenticator->Identify(lower, Right::kGenerate).ok());
}

TEST_F(AuthenticatorTest, MissingWrongAndExpiredTokensAreToldApart) {
  const auto authenticator =
      Make({.token_file = TokenFile(LineFor("old", "alice", "until=2027-01-15T08:00:00Z"))});
  const auto why = [&](const Presented& presented) {
    const absl::Status status = authenticator->Identify(presented, Right::kInspect).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
    return absl::StrCat(ReasonOf(status), ": ", status.message());
  };
  EXPECT_THAT(why({}), HasSubstr("TOKEN_MISSING"));
  EXPECT_THAT(why(Bearer("wrong")),
              HasSubstr("TOKEN_INVALID: the token is not accepted: not known"));
  EXPECT_THAT(why(Bearer("")), HasSubstr("TOKEN_INVALID"));
  EXPECT_THAT(why({.authorizations = {"Basic b2xk"}}), HasSubstr("the scheme is not Bearer"));
  EXPECT_THAT(why({.authorizations = {"Bearer old", "Bearer old"}}), HasSubstr("several"));
  EXPECT_THAT(why(Bearer("old")), HasSubstr("expired"));  // 08:00:00 is kNow
}

TEST_F(AuthenticatorTest, OneWhoMayOnlyInspectIsNotAllowedVariations) {
  const auto authenticator =
      Make({.token_file = TokenFile(LineFor("secret", "monitor", "may=inspect"))});
  EXPECT_TRUE(authenticator->Identify(Bearer("secret"), Right::kInspect).ok());
  const absl::Status refused = authenticator->Identify(Bearer("secret"), Right::kGenerate).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ReasonOf(refused), "NOT_ALLOWED");
}

TEST_F(AuthenticatorTest, TokensAreReadAgainWhenTheFileChanges) {
  const auto authenticator = Make({.token_file = TokenFile(LineFor("old", "alice"))});
  TokenFile(LineFor("old", "alice") + LineFor("newer", "alice"));
  EXPECT_TRUE(authenticator->Identify(Bearer("newer"), Right::kGenerate).ok());
  EXPECT_TRUE(authenticator->Identify(Bearer("old"), Right::kGenerate).ok());
  TokenFile(LineFor("newer", "alice"));
  EXPECT_FALSE(authenticator->Identify(Bearer("old"), Right::kGenerate).ok());
}

TEST_F(AuthenticatorTest, ABrokenFileLeavesTheTokensAsTheyWere) {
  const auto authenticator = Make({.token_file = TokenFile(LineFor("secret", "alice"))});
  TokenFile("half a li");
  EXPECT_TRUE(authenticator->Identify(Bearer("secret"), Right::kGenerate).ok());
  std::filesystem::remove(folder_.path() / "tokens");
  EXPECT_TRUE(authenticator->Identify(Bearer("secret"), Right::kGenerate).ok());
  TokenFile("# nobody\n");
  EXPECT_FALSE(authenticator->Identify(Bearer("secret"), Right::kGenerate).ok());
}

TEST_F(AuthenticatorTest, ABrokenFileAtStartIsNamed) {
  const auto refused = Authenticator::Make({.token_file = TokenFile("alice\n")}, clock_);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("tokens: line 1"));
  const auto missing = Authenticator::Make({.token_file = "/no/tokens"}, clock_);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/no/tokens"));
}

TEST_F(AuthenticatorTest, CertificateNamesItsCallerAndMayBeTurnedAway) {
  const auto anybody = Make({});
  const Presented presented{.certificate_names = {"a.example", "b.example"}};
  EXPECT_EQ(anybody->Identify(presented, Right::kGenerate)->name, "certificate:a.example");
  const auto some = Make({.client_names = {"b.example"}});
  EXPECT_EQ(some->Identify(presented, Right::kGenerate)->name, "certificate:b.example");
  const auto others = Make({.client_names = {"c.example"}});
  EXPECT_EQ(ReasonOf(others->Identify(presented, Right::kInspect).status()), "NOT_ALLOWED");
}

TEST_F(AuthenticatorTest, CertificateDoesNotReplaceTheToken) {
  const auto authenticator = Make({.token_file = TokenFile(LineFor("secret", "alice"))});
  EXPECT_EQ(
      ReasonOf(authenticator->Identify({.certificate_names = {"a"}}, Right::kInspect).status()),
      "TOKEN_MISSING");
}

}  // namespace
}  // namespace image_variations
