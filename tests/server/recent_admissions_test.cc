#include "server/recent_admissions.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();

TEST(RecentAdmissions, TheNextWhileIsTheMeanOfTheLastThree) {
  RecentAdmissions recent;
  for (int i = 1; i <= 7; ++i) {  // the first one is too long ago
    recent.Add({.shape = {.samples = i}, .at = kNow - absl::Seconds(14 - 2 * i)});
  }
  const auto comers = recent.Replay(kNow, absl::Seconds(4));
  ASSERT_EQ(comers.size(), 2u);
  EXPECT_EQ(comers[0].shape.samples, 4);
  EXPECT_EQ(comers[0].at, kNow + absl::Seconds(2));
  EXPECT_EQ(comers[1].shape.samples, 7);
  EXPECT_EQ(comers[1].at, kNow + absl::Seconds(4));
}

TEST(RecentAdmissions, NobodyComesWhereNobodyCame) {
  RecentAdmissions recent;
  recent.Add({.at = kNow - absl::Hours(1)});
  EXPECT_TRUE(recent.Replay(kNow, absl::Seconds(4)).empty());
}

TEST(RecentAdmissions, HasSixtyFourAtMost) {
  RecentAdmissions recent;
  for (int i = 0; i < 1000; ++i) {
    recent.Add({.shape = {.samples = i}, .at = kNow + absl::Milliseconds(i)});
  }
  const auto comers = recent.Replay(kNow + absl::Seconds(1), absl::Hours(1));
  ASSERT_EQ(comers.size(), 64u);
  EXPECT_EQ(comers.back().shape.samples, 999);
}

}  // namespace
}  // namespace image_variations
