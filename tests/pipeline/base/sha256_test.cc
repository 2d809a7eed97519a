#include "pipeline/base/sha256.h"

#include <utility>

#include "gtest/gtest.h"

namespace image_variations {
namespace {

// FIPS 180-4's examples.
TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(Sha256OfText(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256OfText("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesGiveTheDigestOfTheWhole) {
  Sha256 hash;
  hash.Update("a");
  hash.Update("");
  hash.Update("bc");
  EXPECT_EQ(std::move(hash).HexDigest(), Sha256OfText("abc"));
}

}  // namespace
}  // namespace image_variations
