#include "client/cli/progress_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace image_variations::client {
namespace {

constexpr size_t kNameWidth = 24;
constexpr int kBarWidth = 24;

// The end of the path, which tells pictures apart.
std::string Shorten(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1 == 0
  if (name.size() <= kNameWidth) return std::string(name);
  return absl::StrCat("..", name.substr(name.size() - kNameWidth + 2));
}

std::string DrawBar(int done, int total) {
  const int filled = total > 0 ? static_cast<int>(int64_t{kBarWidth} * done / total) : 0;
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(kBarWidth - filled), '-'), "]");
}

std::string DescribeSteps(const Progress& progress) {
  std::string steps = absl::StrCat(progress.steps_done, "/", progress.steps_total, " steps");
  if (progress.predicted_remaining <= absl::ZeroDuration()) return steps;
  return absl::StrCat(steps, ", ", FormatClock(progress.predicted_remaining), " left");
}

std::string DescribeAdmission(const Admitted& admitted) {
  std::string text = admitted.samples_ahead == 0
                         ? "starting"
                         : absl::StrCat("waiting, ", admitted.samples_ahead, " samples ahead");
  if (admitted.predicted_finish > absl::ZeroDuration()) {
    absl::StrAppend(&text, ", done in about ", FormatClock(admitted.predicted_finish));
  }
  return text;
}

}  // namespace

std::string FormatClock(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1)));
  const int64_t hours = seconds / 3600;
  if (hours == 0) return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  return absl::StrFormat("%d:%02d:%02d", hours, seconds / 60 % 60, seconds % 60);
}

ProgressReport::ProgressReport(std::ostream& out, ProgressStyle style, std::string picture)
    : out_(out), style_(style), picture_(std::move(picture)), bar_(out) {}

void ProgressReport::OnAdmitted(const Admitted& admitted) {
  const std::string text = DescribeAdmission(admitted);
  if (style_ == ProgressStyle::kBar) bar_.Show(absl::StrCat(Shorten(picture_), "  ", text));
  if (style_ == ProgressStyle::kLines) Say(absl::StrCat(picture_, ": ", text));
}

void ProgressReport::OnProgress(const Progress& progress) {
  if (progress.steps_done == 0 || progress.steps_total <= 0) return;  // still waiting
  if (style_ == ProgressStyle::kBar) {
    bar_.Show(absl::StrCat(Shorten(picture_), "  ",
                           DrawBar(progress.steps_done, progress.steps_total), "  ",
                           DescribeSteps(progress)));
  }
  const int tenths = static_cast<int>(int64_t{10} * progress.steps_done / progress.steps_total);
  if (style_ == ProgressStyle::kLines && tenths > tenths_said_) {
    tenths_said_ = tenths;
    Say(absl::StrCat(picture_, ": ", DescribeSteps(progress)));
  }
}

void ProgressReport::OnRetry(absl::string_view why, const Retry& retry, int max_attempts) {
  Say(absl::StrCat(picture_, ": ", why, "; trying again in ", FormatClock(retry.wait), " (attempt ",
                   retry.attempt, " of ", max_attempts, ")"));
}

void ProgressReport::Say(absl::string_view text) {
  if (style_ == ProgressStyle::kQuiet) return;
  bar_.Erase();
  out_ << std::string(text) << "\n" << std::flush;
}

}  // namespace image_variations::client
