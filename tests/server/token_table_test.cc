#include "server/token_table.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/sha256.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;

const std::string kHash = Sha256OfText("secret");

std::string ErrorOf(absl::string_view text) {
  const auto table = TokenTable::Parse(text);
  EXPECT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(table.status().message());
}

TEST(TokenTable, FindsATokenByItsHash) {
  const TokenTable table = TokenTable::Parse(absl::StrCat("alice ", kHash)).value();
  ASSERT_NE(table.Find("secret"), nullptr);
  EXPECT_EQ(table.Find("secret")->name, "alice");
  EXPECT_EQ(table.Find("secret")->until, absl::InfiniteFuture());
  EXPECT_EQ(table.Find("secret")->right, Right::kGenerate);
  EXPECT_EQ(table.Find("Secret"), nullptr);
  EXPECT_EQ(table.Find(kHash), nullptr);
  EXPECT_EQ(table.Find(""), nullptr);
}

TEST(TokenTable, OneNameCanHaveAnOldAndANewToken) {
  const TokenTable table =
      TokenTable::Parse(absl::StrCat("alice ", kHash, "\nalice ", Sha256OfText("new"), "\n"))
          .value();
  EXPECT_EQ(table.size(), 2);
  EXPECT_EQ(table.Find("new")->name, table.Find("secret")->name);
}

TEST(TokenTable, ReadsExpiryRightCommentsAndBothCasesOfHex) {
  const TokenTable table =
      TokenTable::Parse(absl::StrCat("# staff\n\n\tmonitor ", absl::AsciiStrToUpper(kHash),
                                     " until=2027-01-31T12:00:00Z may=inspect # rotated\r\n"))
          .value();
  const Token* token = table.Find("secret");
  ASSERT_NE(token, nullptr);
  EXPECT_EQ(token->right, Right::kInspect);
  EXPECT_EQ(absl::FormatTime(absl::RFC3339_sec, token->until, absl::UTCTimeZone()),
            "2027-01-31T12:00:00+00:00");
}

TEST(TokenTable, MistakesAreNamedWithTheirLine) {
  EXPECT_THAT(ErrorOf("alice"), HasSubstr("line 1: no NAME and SHA-256"));
  EXPECT_THAT(ErrorOf(absl::StrCat("#\nalice ", kHash.substr(1))), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf(absl::StrCat("alice ", kHash, " until=tomorrow")), HasSubstr("tomorrow"));
  EXPECT_THAT(ErrorOf(absl::StrCat("alice ", kHash, " may=everything")),
              HasSubstr("may=everything"));
  EXPECT_THAT(ErrorOf(absl::StrCat("alice ", kHash, "\nbob ", kHash)), HasSubstr("second time"));
  EXPECT_THAT(ErrorOf(absl::StrCat(std::string(65, 'a'), " ", kHash)), HasSubstr("name"));
}

}  // namespace
}  // namespace image_variations
