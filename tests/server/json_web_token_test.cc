#include "server/json_web_token.h"

#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/status_macros.h"
#include "tests/server/signed_token.h"
#include "tests/server/test_certificates.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kIssuer[] = "https://issuer.example";
constexpr char kAudience[] = "image-variations";
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr char kGoodClaims[] =
    R"({"iss":"https://issuer.example","aud":"image-variations","sub":"alice","exp":1800000060})";

// Verifies ES256 tokens of one key.
class JsonWebToken : public ::testing::Test {
 protected:
  absl::StatusOr<TokenClaims> Verify(absl::string_view token, absl::Time now = kNow) const {
    return verifier_.Verify(token, now);
  }
  std::string WhyNot(absl::string_view token, absl::Time now = kNow) const {
    const absl::Status status = Verify(token, now).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << token;
    return std::string(status.message());
  }
  std::string WhyNotClaims(absl::string_view claims) const { return WhyNot(Es256(*key_, claims)); }

  const KeyPtr key_ = NewEcKey();
  const TokenVerifier verifier_ =
      TokenVerifier::Make(PublicKeyPem(*key_), kIssuer, kAudience).value();
};

TEST_F(JsonWebToken, TellsWhoseItIs) {
  const auto claims = Verify(Es256(*key_, kGoodClaims));
  ASSERT_TRUE(claims.ok()) << claims.status();
  EXPECT_EQ(claims->subject, "alice");
  EXPECT_THAT(claims->scopes, ElementsAre());
}

TEST_F(JsonWebToken, ReadsScopesAndListsOfAudiences) {
  const auto claims =
      Verify(Es256(*key_, R"({"iss":"https://issuer.example","aud":["x","image-variations"],
                              "sub":"a","exp":1800000060.5,"nbf":1799999990,"scope":"read write"})"));
  ASSERT_TRUE(claims.ok()) << claims.status();
  EXPECT_THAT(claims->scopes, ElementsAre("read", "write"));
}

TEST_F(JsonWebToken, ExpiryAndBeginAllowForClocksHalfAMinuteApart) {
  const std::string token = Es256(*key_, kGoodClaims);
  EXPECT_TRUE(Verify(token, absl::FromUnixSeconds(1'800'000'089)).ok());
  EXPECT_EQ(WhyNot(token, absl::FromUnixSeconds(1'800'000'090)), "expired");
  const auto from = [](const char* time) {
    return absl::StrReplaceAll(kGoodClaims, {{"}", absl::StrCat(",\"nbf\":", time, "}")}});
  };
  EXPECT_TRUE(Verify(Es256(*key_, from("1800000030"))).ok());
  EXPECT_EQ(WhyNotClaims(from("1800000031")), "not valid yet");
  EXPECT_EQ(WhyNotClaims(from("\"soon\"")), "not valid yet");
}

TEST_F(JsonWebToken, EveryClaimThatCountsMustBeThereAndRight) {
  const auto with = [](const char* old_text, const char* new_text) {
    const std::string claims = absl::StrReplaceAll(kGoodClaims, {{old_text, new_text}});
    EXPECT_NE(claims, kGoodClaims);
    return claims;
  };
  EXPECT_EQ(WhyNotClaims(with("issuer.example", "issuer.example.org")), "from another issuer");
  EXPECT_EQ(WhyNotClaims(with("\"iss\"", "\"isz\"")), "from another issuer");
  EXPECT_EQ(WhyNotClaims(with("\"image-variations\"", "\"other\"")), "for another audience");
  EXPECT_EQ(WhyNotClaims(with("\"image-variations\"", "[\"other\",7]")), "for another audience");
  EXPECT_EQ(WhyNotClaims(with("\"image-variations\"", "7")), "for another audience");
  EXPECT_THAT(WhyNotClaims(with("\"exp\"", "\"exq\"")), HasSubstr("until when"));
  EXPECT_THAT(WhyNotClaims(with("1800000060", "-1")), HasSubstr("until when"));
  EXPECT_THAT(WhyNotClaims(with("1800000060", "\"1800000060\"")), HasSubstr("until when"));
  EXPECT_THAT(WhyNotClaims(with("1800000060", "1e300")), HasSubstr("until when"));
  EXPECT_THAT(WhyNotClaims(with("\"alice\"", "5")), HasSubstr("whose"));
}

TEST_F(JsonWebToken, OnlyItsKeysAndTheirAlgorithmCount) {
  const KeyPtr other = NewEcKey();
  EXPECT_EQ(WhyNot(Es256(*other, kGoodClaims)), "not signed by a known key");
  std::string changed = Es256(*key_, kGoodClaims);
  changed.replace(changed.find('.') + 1, 4, Part(R"({"a)"));
  EXPECT_EQ(WhyNot(changed), "not signed by a known key");
  for (const char* header : {R"({"alg":"none"})", R"({"alg":"HS256"})", R"({"alg":"RS256"})",
                             R"({"alg":5})", R"({"alg":null})", R"({"alg":""})", R"({})"}) {
    EXPECT_EQ(WhyNot(Es256(*key_, kGoodClaims, header)), "not signed by a known key") << header;
  }
}

// The public key is no secret: a token "signed" with it as an HMAC secret must not pass.
TEST_F(JsonWebToken, ThePublicKeyIsNoHmacSecret) {
  const std::string text =
      absl::StrCat(Part(R"({"alg":"HS256","typ":"JWT"})"), ".", Part(kGoodClaims));
  const std::string secret = PublicKeyPem(*key_);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  const std::string signature(reinterpret_cast<const char*>(mac), size);
  EXPECT_EQ(WhyNot(absl::StrCat(text, ".", Part(signature))), "not signed by a known key");
}

TEST_F(JsonWebToken, WhatIsNoTokenIsRefusedWithoutHarm) {
  const std::string good = Es256(*key_, kGoodClaims);
  const std::string signature = good.substr(good.rfind('.'));
  for (const std::string& token : {
           std::string(),
           std::string("."),
           std::string(".."),
           std::string("..."),
           good.substr(0, good.rfind('.')),
           good + ".",
           good + "=",
           " " + good,
           absl::StrCat("e30.e30", signature),
           absl::StrCat(Part("[]"), ".", Part("[]"), signature),
           absl::StrCat(Part("{\"alg\":\"ES256\",\"alg\":\"ES256\"}"), ".", Part(kGoodClaims),
                        signature),
           absl::StrCat(Part(std::string(3000, '[')), ".", Part("{}"), signature),
           std::string(9000, 'a'),
           std::string("\xff\xfe.\x00.x", 6),
       }) {
    WhyNot(token);
  }
  EXPECT_THAT(WhyNot(Es256(*key_, kGoodClaims, R"({"alg":"ES256","crit":["exp"]})")),
              HasSubstr("extensions"));
}

TEST(TokenVerifier, TakesRsaAndSeveralKeys) {
  const KeyPtr rsa(EVP_RSA_gen(2048));
  const KeyPtr ec = NewEcKey();
  const auto verifier = TokenVerifier::Make(
      absl::StrCat("old:\n", PublicKeyPem(*ec), PublicKeyPem(*rsa)), kIssuer, kAudience);
  ASSERT_TRUE(verifier.ok()) << verifier.status();
  const std::string text = absl::StrCat(Part(R"({"alg":"RS256"})"), ".", Part(kGoodClaims));
  const auto by_rsa = verifier->Verify(absl::StrCat(text, ".", Part(SignSha256(*rsa, text))), kNow);
  EXPECT_TRUE(by_rsa.ok()) << by_rsa.status();
  EXPECT_TRUE(verifier->Verify(Es256(*ec, kGoodClaims), kNow).ok());
}

TEST(TokenVerifier, OtherKeysAreRefused) {
  EXPECT_THAT(std::string(TokenVerifier::Make("", kIssuer, kAudience).status().message()),
              HasSubstr("no PEM public key"));
  const KeyPtr weak(EVP_RSA_gen(1024));
  const KeyPtr curve(EVP_EC_gen("P-384"));
  for (const KeyPtr* key : {&weak, &curve}) {
    const auto verifier = TokenVerifier::Make(PublicKeyPem(**key), kIssuer, kAudience);
    EXPECT_THAT(std::string(verifier.status().message()), HasSubstr("neither RSA of at least"));
  }
  const KeyPtr key = NewEcKey();
  EXPECT_FALSE(TokenVerifier::Make(PrivateKeyPem(*key), kIssuer, kAudience).ok());
}

}  // namespace
}  // namespace image_variations
