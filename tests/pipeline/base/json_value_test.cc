#include "pipeline/base/json_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace image_variations {
namespace {

using testing::HasSubstr;

TEST(ParseStrictJson, RefusesAKeyTwiceInOneObjectAtAnyDepth) {
  EXPECT_EQ(ParseStrictJson(R"({"a": [{"b": 1, "b": 2}]})", 8).status(),
            absl::InvalidArgumentError("the key \"b\" appears twice in one object"));
}

TEST(ParseStrictJson, AllowsOneKeyInTwoObjects) {
  EXPECT_TRUE(ParseStrictJson(R"({"a": {"b": 1}, "c": {"b": 1}, "b": 1})", 8).ok());
}

TEST(ParseStrictJson, RefusesDeeperNestingThanAllowed) {
  EXPECT_TRUE(ParseStrictJson("[[[]]]", 3).ok());
  EXPECT_EQ(ParseStrictJson("[[[]]]", 2).status(),
            absl::InvalidArgumentError("JSON nested deeper than 2"));
}

TEST(ParseStrictJson, TellsWhereTheTextGoesWrong) {
  EXPECT_THAT(std::string(ParseStrictJson("{\"a\": }", 8).status().message()),
              HasSubstr("not valid JSON at byte 7"));
}

TEST(ParseStrictJson, RefusesWhatFollowsTheDocument) {
  EXPECT_FALSE(ParseStrictJson("{} {}", 8).ok());
  EXPECT_FALSE(ParseStrictJson("", 8).ok());
}

TEST(ParseStrictJson, RefusesNumbersThatNoDoubleHolds) {
  EXPECT_FALSE(ParseStrictJson("1e999", 8).ok());
}

TEST(JsonValue, IsWrittenAsItWasRead) {
  for (const std::string text :
       {"null", "true", "false", "0", "-1", "9223372036854775807", "0.1", "1.0", "1e-07", "1e+20",
        "\"\"", "[]", "{}", R"([1,"2",[3.5,null]])", R"({"a":{"b":[true]},"c":"\"\\"})"}) {
    EXPECT_EQ(ParseStrictJson(text, 8).value().Text(), text);
  }
}

TEST(JsonValue, HasTheTypeThatWasWritten) {
  const JsonValue value = ParseStrictJson(R"({"a": 1, "b": 1.0, "c": "1", "d": true})", 8).value();
  EXPECT_EQ(*value.Find("a")->AsInteger(), 1);
  EXPECT_EQ(value.Find("a")->AsNumber(), 1.0);
  EXPECT_EQ(value.Find("b")->AsInteger(), nullptr);
  EXPECT_EQ(value.Find("b")->AsNumber(), 1.0);
  EXPECT_EQ(*value.Find("c")->AsString(), "1");
  EXPECT_EQ(value.Find("c")->AsNumber(), std::nullopt);
  EXPECT_EQ(*value.Find("d")->AsBool(), true);
  EXPECT_EQ(value.Find("e"), nullptr);
  EXPECT_EQ(value.Find("a")->Find("a"), nullptr);
}

TEST(JsonValue, IntegersBeyond64BitsAreNumbers) {
  const JsonValue value = ParseStrictJson("18446744073709551615", 8).value();
  EXPECT_EQ(value.AsInteger(), nullptr);
  EXPECT_EQ(value.AsNumber(), 18446744073709551616.0);
}

TEST(JsonValue, NothingInAStringBreaksALine) {
  EXPECT_EQ(QuotedJson("a\n\"\\\x7f\xc3"), R"("a\u000a\"\\\u007f\u00c3")");
}

}  // namespace
}  // namespace image_variations
