#include "pipeline/base/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace image_variations {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Problems(const ConfigReader& in) { return std::string(in.status().message()); }

TEST(ConfigReader, GivesTheDefaultForAbsentAndNullKeys) {
  ConfigReader in(R"({"null": null})");
  EXPECT_EQ(in.Int("null", 5, {0, 9}), 5);
  EXPECT_EQ(in.Int("absent", 6, {0, 9}), 6);
  EXPECT_TRUE(in.status().ok());
}

TEST(ConfigReader, CollectsEveryProblem) {
  ConfigReader in(R"({"count": 10, "name": 3})");
  in.Int("count", 0, {1, 9});
  in.String("name", "");
  in.Require("size");
  EXPECT_EQ(Problems(in),
            "count must be an integer from 1 to 9, is 10; name must be a string, is 3; "
            "size is missing");
}

TEST(ConfigReader, DoesNotWrapIntegersBeyond64Bits) {
  ConfigReader in(R"({"count": 18446744073709551615})");
  EXPECT_EQ(in.Int("count", 7, {-9, 9}), 7);
  EXPECT_FALSE(in.status().ok());
}

TEST(ConfigReader, ReadsPythonsNanAndInfinityAsNullOutsideStrings) {
  ConfigReader in(R"({"a": NaN, "b": [-Infinity, Infinity], "c": "\"NaN", "d": "Infinity"})");
  EXPECT_TRUE(in.status().ok()) << Problems(in);
  EXPECT_FALSE(in.Has("a"));
  EXPECT_EQ(in.String("c", ""), "\"NaN");
  EXPECT_EQ(in.String("d", ""), "Infinity");
}

TEST(ConfigReader, PrefixesTheKeysOfNestedObjects) {
  ConfigReader in(R"({"tower": {"layers": "many"}})");
  ConfigReader tower = in.Object("tower");
  tower.Int("layers", 1, {1, 9});
  EXPECT_TRUE(in.status().ok());
  in.Merge(tower);
  EXPECT_THAT(Problems(in), HasSubstr("tower.layers must be an integer"));
}

TEST(ConfigReader, ReadsListsWholeOrNotAtAll) {
  ConfigReader in(R"({"good": [1, 2], "bad": [1, "2"], "empty": []})");
  EXPECT_THAT(in.Ints("good", {}, {0, 9}), ElementsAre(1, 2));
  EXPECT_TRUE(in.status().ok());
  EXPECT_THAT(in.Ints("bad", {7}, {0, 9}), ElementsAre(7));
  EXPECT_THAT(in.Ints("empty", {7}, {0, 9}), ElementsAre(7));
  EXPECT_THAT(Problems(in), HasSubstr("bad must be a list of integers from 0 to 9, is [1,\"2\"]"));
}

TEST(ConfigReader, OnlyAcceptsAbsentNullAndTheImplementedValue) {
  ConfigReader in(R"({"word": "a", "truth": true, "number": 1, "null": null})");
  in.Only("word", "a");
  in.Only("truth", true);
  in.Only("number", 1.0);
  in.Only("null", "a");
  in.Only("absent", false);
  EXPECT_TRUE(in.status().ok()) << Problems(in);
  in.Only("word", "b");
  EXPECT_EQ(Problems(in), "word = \"a\" is not implemented, only \"b\" is");
}

}  // namespace
}  // namespace image_variations
