#include "pipeline/engine/safety_policy.h"

#include <gtest/gtest.h>

#include <limits>
#include <type_traits>

namespace image_variations {
namespace {

static_assert(!std::is_default_constructible_v<CheckedImage>,
              "only SafetyPolicy makes a picture that may be shown");

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

bool Blocks(const SafetyScores& scores, SafetyMode mode = SafetyMode::kRequired) {
  return SafetyPolicy(mode).Judge(Image{1, 1, {1, 2, 3}}, scores).blocked();
}

TEST(SafetyPolicy, BlocksWhenOneConceptIsAboveItsThreshold) {
  EXPECT_FALSE(Blocks({.special_care = {-0.2f}, .concepts = {-0.1f, -0.3f}}));
  EXPECT_TRUE(Blocks({.special_care = {-0.2f}, .concepts = {-0.1f, 0.1f}}));
}

TEST(SafetyPolicy, RoundsToThreeDecimalsSoThatTheThresholdIsHalfAThousandth) {
  EXPECT_FALSE(Blocks({.special_care = {}, .concepts = {0.0004f}}));
  EXPECT_TRUE(Blocks({.special_care = {}, .concepts = {0.0006f}}));
}

TEST(SafetyPolicy, SpecialCareLowersTheBarByOneHundredthButDoesNotBlockAlone) {
  EXPECT_FALSE(Blocks({.special_care = {0.3f}, .concepts = {-0.02f}}));
  EXPECT_TRUE(Blocks({.special_care = {0.3f}, .concepts = {-0.008f}}));
  EXPECT_FALSE(Blocks({.special_care = {-0.3f}, .concepts = {-0.008f}}));
}

TEST(SafetyPolicy, SpecialCareDoesNotAddUpButReachesLaterSpecialCare) {
  EXPECT_FALSE(Blocks({.special_care = {0.3f, 0.3f}, .concepts = {-0.015f}}));
  EXPECT_TRUE(Blocks({.special_care = {0.3f, -0.008f}, .concepts = {-0.008f}}));
}

TEST(SafetyPolicy, FailsClosedWhenAScoreIsNotFiniteOrThereAreNone) {
  EXPECT_TRUE(Blocks({.special_care = {-1}, .concepts = {-1, kNan}}));
  EXPECT_TRUE(Blocks({.special_care = {kNan}, .concepts = {-1}}));
  EXPECT_TRUE(Blocks({.special_care = {-1}, .concepts = {std::numeric_limits<float>::infinity()}}));
  EXPECT_TRUE(
      Blocks({.special_care = {-1}, .concepts = {-std::numeric_limits<float>::infinity()}}));
  EXPECT_TRUE(Blocks({}));
}

TEST(SafetyPolicy, OffBlocksNothing) {
  EXPECT_FALSE(Blocks({.special_care = {1}, .concepts = {1, kNan}}, SafetyMode::kOff));
  EXPECT_FALSE(Blocks({}, SafetyMode::kOff));
}

TEST(SafetyPolicyDeathTest, ABlockedPictureCannotBeReadOrEncoded) {
  const CheckedImage blocked =
      SafetyPolicy(SafetyMode::kRequired).Judge(Image{1, 1, {1, 2, 3}}, {});
  EXPECT_DEATH(static_cast<void>(EncodeChecked(blocked, {})), "check failed");
}

}  // namespace
}  // namespace image_variations
