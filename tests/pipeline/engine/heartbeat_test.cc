#include "pipeline/engine/heartbeat.h"

#include <gtest/gtest.h>

namespace image_variations {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();
constexpr absl::Duration kPatience = absl::Seconds(60);

TEST(Heartbeat, ACallIsHungAfterPatienceAndTwentyTimesItsPrediction) {
  Heartbeat heartbeat;
  heartbeat.BeginCall("denoise", kNow, absl::Seconds(1));
  EXPECT_EQ(heartbeat.HungCall(kNow + absl::Seconds(59), kPatience), std::nullopt);
  EXPECT_EQ(heartbeat.HungCall(kNow + absl::Seconds(60), kPatience),
            "denoise has run for 1m, predicted 1s");
  heartbeat.BeginCall("decode", kNow, absl::Seconds(10));
  EXPECT_EQ(heartbeat.HungCall(kNow + absl::Seconds(199), kPatience), std::nullopt);
  EXPECT_NE(heartbeat.HungCall(kNow + absl::Seconds(200), kPatience), std::nullopt);
}

TEST(Heartbeat, NothingHangsBetweenCalls) {
  Heartbeat heartbeat;
  EXPECT_EQ(heartbeat.HungCall(kNow, kPatience), std::nullopt);
  heartbeat.BeginCall("denoise", kNow, absl::Seconds(1));
  heartbeat.EndCall();
  EXPECT_EQ(heartbeat.HungCall(kNow + absl::Hours(1), kPatience), std::nullopt);
}

}  // namespace
}  // namespace image_variations
