#include "client/cli/progress_report.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations::client {
namespace {

using ::testing::HasSubstr;

Progress At(int done, int total, int seconds_left) {
  return {
      .steps_done = done, .steps_total = total, .predicted_remaining = absl::Seconds(seconds_left)};
}

// What a terminal shows on its last line.
std::string LastLine(const std::string& written) {
  std::string line;
  size_t column = 0;
  for (const char letter : written) {
    if (letter == '\n') line.clear();
    if (letter == '\n' || letter == '\r') {
      column = 0;
      continue;
    }
    line.resize(std::max(line.size(), column + 1), ' ');
    line[column++] = letter;
  }
  return line.substr(0, line.find_last_not_of(' ') + 1);
}

TEST(FormatClock, RoundsUpAndShowsHoursOnlyWhenThereAreAny) {
  EXPECT_EQ(FormatClock(absl::Milliseconds(6400)), "0:07");
  EXPECT_EQ(FormatClock(absl::Seconds(750)), "12:30");
  EXPECT_EQ(FormatClock(absl::Seconds(3723)), "1:02:03");
}

TEST(ProgressReport, PlainLinesTellQueuePlaceAndEachTenthOnce) {
  std::ostringstream out;
  ProgressReport report(out, ProgressStyle::kLines, "cat.png");
  report.OnAdmitted({.predicted_finish = absl::Seconds(42), .samples_ahead = 3});
  report.OnProgress(At(0, 100, 40));
  report.OnProgress(At(25, 100, 30));
  report.OnProgress(At(29, 100, 28));
  report.OnProgress(At(100, 100, 0));
  EXPECT_EQ(out.str(),
            "cat.png: waiting, 3 samples ahead, done in about 0:42\n"
            "cat.png: 25/100 steps, 0:30 left\n"
            "cat.png: 100/100 steps\n");
}

TEST(ProgressReport, TheBarShowsStepsAndTimeLeft) {
  std::ostringstream out;
  ProgressReport report(out, ProgressStyle::kBar, "cat.png");
  report.OnProgress(At(50, 100, 12));
  EXPECT_EQ(LastLine(out.str()), "cat.png  [############------------]  50/100 steps, 0:12 left");
}

TEST(ProgressReport, AShorterBarCoversALongerOne) {
  std::ostringstream out;
  ProgressReport report(out, ProgressStyle::kBar, "cat.png");
  report.OnAdmitted({.predicted_finish = absl::Seconds(3600 * 10), .samples_ahead = 1234567});
  report.OnProgress(At(1, 2, 0));
  EXPECT_EQ(LastLine(out.str()), "cat.png  [############------------]  1/2 steps");
}

TEST(ProgressReport, TheBarIsTakenAwayAtTheEnd) {
  std::ostringstream out;
  { ProgressReport(out, ProgressStyle::kBar, "cat.png").OnProgress(At(50, 100, 12)); }
  EXPECT_EQ(LastLine(out.str()), "");
}

TEST(ProgressReport, UsesNoEscapeSequence) {
  std::ostringstream out;
  { ProgressReport(out, ProgressStyle::kBar, "cat.png").OnProgress(At(50, 100, 12)); }
  EXPECT_EQ(out.str().find('\x1b'), std::string::npos);
}

TEST(ProgressReport, ARetryTellsWhyWhenAndHowOften) {
  std::ostringstream out;
  ProgressReport report(out, ProgressStyle::kLines, "cat.png");
  report.OnRetry("the line is full", {.wait = absl::Seconds(20), .attempt = 2}, 4);
  EXPECT_EQ(out.str(), "cat.png: the line is full; trying again in 0:20 (attempt 2 of 4)\n");
}

TEST(ProgressReport, QuietSaysNothing) {
  std::ostringstream out;
  {
    ProgressReport report(out, ProgressStyle::kQuiet, "cat.png");
    report.OnAdmitted({.samples_ahead = 3});
    report.OnProgress(At(50, 100, 12));
    report.Say("done");
  }
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace image_variations::client
