#include "server/trace_context.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

using ::testing::MatchesRegex;
using ::testing::Ne;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";

std::string Traceparent(const std::string& version, const std::string& more = "") {
  return version + "-" + kTrace + "-" + kSpan + "-01" + more;
}

TEST(TraceContext, GoesOnInTheCallersTraceWithASpanOfItsOwn) {
  const TraceContext trace = ContinueTrace(Traceparent("00"));
  EXPECT_EQ(trace.trace_id, kTrace);
  EXPECT_THAT(trace.span_id, Ne(kSpan));
  EXPECT_THAT(trace.ToTraceparent(), MatchesRegex("00-" + std::string(kTrace) + "-[0-9a-f]+-01"));
}

TEST(TraceContext, BeginsATraceWithoutACallersOne) {
  EXPECT_THAT(ContinueTrace("").ToTraceparent(), MatchesRegex("00-[0-9a-f]+-[0-9a-f]+-00"));
  EXPECT_EQ(ContinueTrace("").ToTraceparent().size(), 55);
  EXPECT_THAT(ContinueTrace("").trace_id, Ne(ContinueTrace("").trace_id));
}

TEST(TraceContext, TakesWhatLaterVersionsHaveInCommon) {
  EXPECT_EQ(ContinueTrace(Traceparent("01", "-what-comes-later")).trace_id, kTrace);
}

TEST(TraceContext, DoesNotTakeOverWhatIsNotWellFormed) {
  const std::string zeros(32, '0');
  const std::vector<std::string> all_bad = {
      Traceparent("ff"),
      Traceparent("00", "-more"),
      Traceparent("01", "more"),
      Traceparent("0x"),
      Traceparent("00").substr(1),
      "00-" + zeros + "-" + kSpan + "-01",
      std::string("00-") + kTrace + "-" + zeros.substr(16) + "-01",
      "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
      "00-" + std::string(kTrace) + "_" + kSpan + "-01",
      std::string(1 << 16, '-')};
  for (const std::string& bad : all_bad) {
    EXPECT_THAT(ContinueTrace(bad).trace_id, Ne(kTrace)) << bad;
    EXPECT_EQ(ContinueTrace(bad).trace_id.size(), 32) << bad;
  }
}

}  // namespace
}  // namespace image_variations
