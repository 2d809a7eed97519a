#include "client/bench/latency_plot.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PlottedRun RunAt(double rate, absl::Duration p50, bool valid) {
  return {.rate = rate,
          .latency = {.count = 100, .p50 = p50, .p90 = 2 * p50, .p99 = 3 * p50},
          .goodput = rate,
          .valid = valid};
}

LatencyPlot ThreeRuns() {
  return {
      .subtitle = "model <fake> & more",
      .runs = {RunAt(8, absl::Milliseconds(900), false), RunAt(2, absl::Milliseconds(200), true),
               RunAt(4, absl::Milliseconds(300), true)},
      .target = absl::Seconds(2),
      .target_name = "p99 within 2 s",
      .highest_valid_rate = 4};
}

int64_t Count(const std::string& text, const std::string& part) {
  const std::vector<std::string> pieces = absl::StrSplit(text, part);
  return std::ssize(pieces) - 1;
}

// The x coordinates of the first line.
std::vector<double> FirstLine(const std::string& svg) {
  const size_t begin = svg.find("points=\"", svg.find("#7fb3e0") - 400) + 8;
  std::vector<double> xs;
  for (const std::string& point : static_cast<std::vector<std::string>>(absl::StrSplit(
           svg.substr(begin, svg.find('"', begin) - begin), ' ', absl::SkipEmpty()))) {
    xs.push_back(std::stod(point));
  }
  return xs;
}

TEST(LatencyPlot, EveryRunIsAPointOfEveryLine) {
  const std::string svg = DrawLatencyPlot(ThreeRuns());
  EXPECT_EQ(Count(svg, "<circle"), 4 * 3 + 2) << "p50, p90, p99, goodput, and two that explain";
  EXPECT_EQ(Count(svg, "<polyline"), 4 + 1) << "and what was offered";
}

TEST(LatencyPlot, RunsAreDrawnInTheOrderOfTheirRates) {
  const std::vector<double> xs = FirstLine(DrawLatencyPlot(ThreeRuns()));
  EXPECT_EQ(xs.size(), 3u);
  EXPECT_TRUE(std::is_sorted(xs.begin(), xs.end()));
}

TEST(LatencyPlot, TextsAreEscapedAndSayWhatCounts) {
  const std::string svg = DrawLatencyPlot(ThreeRuns());
  EXPECT_THAT(svg, HasSubstr("model &lt;fake&gt; &amp; more"));
  EXPECT_THAT(svg, HasSubstr("p99 within 2 s"));
  EXPECT_THAT(svg, HasSubstr("valid up to 4/s"));
}

TEST(LatencyPlot, WithoutTargetNothingIsJudged) {
  LatencyPlot plot = ThreeRuns();
  plot.target = absl::InfiniteDuration();
  plot.highest_valid_rate.reset();
  const std::string svg = DrawLatencyPlot(plot);
  EXPECT_THAT(svg, Not(HasSubstr("VALID")));
  EXPECT_THAT(svg, Not(HasSubstr("valid up to")));
}

TEST(LatencyPlot, ARunOfWhichNothingFinishedHasNoLatency) {
  LatencyPlot plot = ThreeRuns();
  plot.runs[0].latency = {};
  plot.runs[0].goodput = 0;
  EXPECT_EQ(Count(DrawLatencyPlot(plot), "<circle"), 3 * 2 + 3 + 2);
}

}  // namespace
}  // namespace image_variations::client
