#include "server/caller_limits.h"

#include <optional>
#include <type_traits>

#include "gtest/gtest.h"
#include "server/rpc_status.h"

namespace image_variations {
namespace {

static_assert(!std::is_copy_constructible_v<CallerTicket>);

TEST(CallerLimits, OneCallerMoreThanItsRequestsIsRefusedOthersAreNot) {
  CallerLimits limits({.max_requests = 2});
  const auto first = limits.Enter("alice", 10);
  const auto second = limits.Enter("alice", 10);
  const absl::Status refused = limits.Enter("alice", 10).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "CALLER_LIMIT");
  EXPECT_EQ(refused.message(), "alice would have 3 requests at a time, limit 2");
  EXPECT_NE(RetryDelayOf(refused), std::nullopt);
  EXPECT_TRUE(limits.Enter("bob", 10).ok());
}

TEST(CallerLimits, ATicketThatIsGoneMakesRoom) {
  CallerLimits limits({.max_requests = 1});
  {
    const auto ticket = limits.Enter("alice", 10);
    EXPECT_FALSE(limits.Enter("alice", 10).ok());
  }
  auto ticket = limits.Enter("alice", 10);
  ASSERT_TRUE(ticket.ok());
  CallerTicket moved = *std::move(ticket);
  EXPECT_FALSE(limits.Enter("alice", 10).ok());
  moved = CallerTicket();
  EXPECT_TRUE(limits.Enter("alice", 10).ok());
}

TEST(CallerLimits, RowsOfAllRequestsCount) {
  CallerLimits limits({.max_unet_rows = 100});
  const auto first = limits.Enter("alice", 60);
  EXPECT_EQ(ReasonOf(limits.Enter("alice", 41).status()), "CALLER_LIMIT");
  EXPECT_TRUE(limits.Enter("alice", 40).ok());
}

TEST(CallerLimits, WhatNeverFitsHasNoAdviceToComeAgain) {
  CallerLimits limits({.max_unet_rows = 100});
  const absl::Status refused = limits.Enter("alice", 101).status();
  EXPECT_EQ(ReasonOf(refused), "CALLER_LIMIT");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
}

TEST(CallerLimits, ZeroIsNoLimit) {
  CallerLimits limits({});
  const auto first = limits.Enter("alice", int64_t{1} << 40);
  EXPECT_TRUE(limits.Enter("alice", int64_t{1} << 40).ok());
}

}  // namespace
}  // namespace image_variations
