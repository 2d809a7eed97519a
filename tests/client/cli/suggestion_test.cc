#include "client/cli/suggestion.h"

#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

TEST(NearestName, ForgivesALetterOfAShortWord) {
  EXPECT_EQ(NearestName("vari", {"vary", "health", "info"}), "vary");
  EXPECT_EQ(NearestName("heath", {"vary", "health", "info"}), "health");
}

TEST(NearestName, ForgivesAMisspeltBeginning) {
  EXPECT_EQ(NearestName("--guidence", {"--guidance-scale", "--seed"}), "--guidance-scale");
}

TEST(NearestName, OffersNothingForAWordFarFromAll) {
  EXPECT_EQ(NearestName("transmogrify", {"vary", "health", "info"}), "");
  EXPECT_EQ(NearestName("x", {"vary", "health", "info"}), "");
}

}  // namespace
}  // namespace image_variations::client
