#include "client/bench/latency_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench/axis.h"
#include "client/bench/svg.h"

namespace image_variations::client {
namespace {

constexpr int kWidth = 880, kHeight = 620;
constexpr double kLeft = 74, kRight = 752;  // what is right of it belongs to the lines' names
constexpr double kTop = 92, kMiddle = 372, kSecondTop = 428, kBottom = 556;
constexpr double kLabelHeight = 15;

constexpr char kInk[] = "#1f2933", kMuted[] = "#66727f", kGrid[] = "#e6eaee", kPaper[] = "#ffffff";
constexpr char kGood[] = "#eef7f1", kGoodInk[] = "#2f7d4f", kTargetInk[] = "#c0392b";

// One hue that darkens towards the tail, so that order is seen and not looked up.
struct Series {
  const char* name;
  const char* colour;
  absl::Duration Distribution::*value;
};
constexpr Series kSeries[] = {{"p50", "#7fb3e0", &Distribution::p50},
                              {"p90", "#3a7fc1", &Distribution::p90},
                              {"p99", "#14467e", &Distribution::p99}};
constexpr char kGoodputColour[] = "#2f7d4f";

// The name of a line, beside its end.
struct Label {
  double y = 0;
  std::string text = {};
  std::string colour = {};
};

double Seconds(absl::Duration time) { return absl::ToDoubleSeconds(time); }

std::string FormatTick(double value) { return absl::StrFormat("%g", value); }

// "0.5 s", "200 ms": as few digits as tell it.
std::string FormatTimeTick(double seconds) {
  return seconds > 0 && seconds < 0.9999 ? absl::StrFormat("%g ms", 1000 * seconds)
                                         : absl::StrFormat("%g s", seconds);
}

class Drawing {
 public:
  explicit Drawing(const LatencyPlot& plot)
      : plot_(plot), rates_(RateAxis()), times_(TimeAxis()), goodputs_(GoodputAxis()) {}

  std::string Draw();

 private:
  Axis RateAxis() const;
  Axis TimeAxis() const;
  Axis GoodputAxis() const;
  void DrawTitle();
  void DrawValidRange();
  void DrawGrid(const Axis& axis, double top, double bottom, const std::string& title,
                std::string (*format)(double));
  void DrawTarget();
  void DrawOffered();
  void DrawLine(const std::vector<Point>&, const std::vector<bool>& valid, const char* colour);
  void DrawLatencies();
  void DrawGoodput();
  void DrawLabels(std::vector<Label>);

  const LatencyPlot& plot_;
  const Axis rates_, times_, goodputs_;
  Svg svg_{kWidth, kHeight};
};

Axis Drawing::RateAxis() const {
  return Axis::Fitting(plot_.runs.front().rate, plot_.runs.back().rate, 8, kLeft, kRight);
}

Axis Drawing::TimeAxis() const {
  const bool has_target = plot_.target < absl::InfiniteDuration();
  double low = has_target ? Seconds(plot_.target) : HUGE_VAL;
  double high = has_target ? Seconds(plot_.target) : 0;
  for (const PlottedRun& run : plot_.runs) {
    if (run.latency.count == 0) continue;
    low = std::min(low, Seconds(run.latency.p50));
    high = std::max(high, Seconds(run.latency.p99));
  }
  return Axis::Fitting(low, high, 12, kMiddle, kTop);
}

Axis Drawing::GoodputAxis() const {
  double high = 0;
  for (const PlottedRun& run : plot_.runs) high = std::max(high, run.goodput);
  return Axis::Linear(high * 1.12, kBottom, kSecondTop);
}

std::string Drawing::Draw() {
  svg_.Rectangle({0, 0}, {kWidth, kHeight}, kPaper);
  DrawValidRange();
  DrawTitle();
  DrawGrid(times_, kTop, kMiddle, "latency of finished requests", &FormatTimeTick);
  DrawGrid(goodputs_, kSecondTop, kBottom, "goodput, requests per second", &FormatTick);
  DrawTarget();
  DrawOffered();
  DrawLatencies();
  DrawGoodput();
  return svg_.str();
}

void Drawing::DrawTitle() {
  svg_.Text({kLeft, 32}, "Latency and goodput against offered rate",
            {.colour = kInk, .size = 18, .bold = true});
  svg_.Text({kLeft, 52}, plot_.subtitle, {.colour = kMuted, .size = 12});
  svg_.Text({(kLeft + kRight) / 2, kHeight - 22}, "offered rate, requests per second",
            {.colour = kMuted, .size = 12, .anchor = TextAnchor::kMiddle});
  if (plot_.target == absl::InfiniteDuration()) return;
  const double y = 28;
  svg_.Circle({kRight - 10, y - 4}, 4, kMuted, {.colour = kMuted, .width = 1.5});
  svg_.Text({kRight, y}, "VALID", {.colour = kMuted, .size = 11});
  svg_.Circle({kRight + 54, y - 4}, 4, kPaper, {.colour = kMuted, .width = 1.5});
  svg_.Text({kRight + 64, y}, "INVALID", {.colour = kMuted, .size = 11});
}

void Drawing::DrawValidRange() {
  if (!plot_.highest_valid_rate) return;
  const double x = rates_.PixelOf(*plot_.highest_valid_rate);
  svg_.Rectangle({kLeft, kTop}, {x, kMiddle}, kGood);
  svg_.Rectangle({kLeft, kSecondTop}, {x, kBottom}, kGood);
  const bool left = x > (kLeft + kRight) / 2;
  svg_.Text(
      {left ? x - 6 : x + 6, kBottom - 8},
      absl::StrFormat("valid up to %g/s", *plot_.highest_valid_rate),
      {.colour = kGoodInk, .size = 12, .anchor = left ? TextAnchor::kEnd : TextAnchor::kStart});
}

void Drawing::DrawGrid(const Axis& axis, double top, double bottom, const std::string& title,
                       std::string (*format)(double)) {
  svg_.Text({kLeft, top - 10}, title, {.colour = kInk, .size = 12, .bold = true});
  for (const double tick : axis.Ticks()) {
    const double y = axis.PixelOf(tick);
    svg_.Line({kLeft, y}, {kRight, y}, {.colour = kGrid});
    svg_.Text({kLeft - 8, y + 4}, format(tick),
              {.colour = kMuted, .size = 11, .anchor = TextAnchor::kEnd});
  }
  for (const double tick : rates_.Ticks()) {
    const double x = rates_.PixelOf(tick);
    svg_.Line({x, bottom}, {x, bottom + 4}, {.colour = kMuted});
    svg_.Text({x, bottom + 18}, FormatTick(tick),
              {.colour = kMuted, .size = 11, .anchor = TextAnchor::kMiddle});
  }
  svg_.Line({kLeft, bottom}, {kRight, bottom}, {.colour = kMuted});
}

void Drawing::DrawTarget() {
  if (plot_.target == absl::InfiniteDuration()) return;
  const double y = times_.PixelOf(Seconds(plot_.target));
  svg_.Line({kLeft, y}, {kRight, y}, {.colour = kTargetInk, .width = 1.2, .dashes = "5 4"});
  svg_.Text({kLeft + 8, y - 6}, plot_.target_name, {.colour = kTargetInk, .size = 12});
}

// What goodput would be if everything offered finished in time: drawn up to where it leaves the
// panel.
void Drawing::DrawOffered() {
  const double low = std::max(rates_.low(), 1e-3 * rates_.high());
  const double high = std::min(rates_.high(), goodputs_.high());
  if (high <= low) return;
  constexpr int kPieces = 48;
  std::vector<Point> points;
  for (int i = 0; i <= kPieces; ++i) {
    const double rate = low * std::pow(high / low, static_cast<double>(i) / kPieces);
    points.push_back({rates_.PixelOf(rate), goodputs_.PixelOf(rate)});
  }
  svg_.Polyline(points, {.colour = "#a3adb8", .width = 1.2, .dashes = "2 3"});
  svg_.Text({std::min(points.back().x + 6, kRight - 50), kSecondTop + 12}, "offered",
            {.colour = kMuted, .size = 11});
}

void Drawing::DrawLine(const std::vector<Point>& points, const std::vector<bool>& valid,
                       const char* colour) {
  svg_.Polyline(points, {.colour = colour, .width = 2});
  for (size_t i = 0; i < points.size(); ++i) {
    svg_.Circle(points[i], 3.6, valid[i] ? colour : kPaper, {.colour = colour, .width = 1.8});
  }
}

void Drawing::DrawLatencies() {
  std::vector<Label> labels;
  for (const Series& series : kSeries) {
    std::vector<Point> points;
    std::vector<bool> valid;
    for (const PlottedRun& run : plot_.runs) {
      if (run.latency.count == 0) continue;
      points.push_back(
          {rates_.PixelOf(run.rate), times_.PixelOf(Seconds(run.latency.*series.value))});
      valid.push_back(run.valid);
    }
    if (points.empty()) continue;
    DrawLine(points, valid, series.colour);
    labels.insert(labels.begin(),
                  {.y = points.back().y, .text = series.name, .colour = series.colour});
  }
  DrawLabels(std::move(labels));
}

void Drawing::DrawGoodput() {
  std::vector<Point> points;
  std::vector<bool> valid;
  for (const PlottedRun& run : plot_.runs) {
    points.push_back({rates_.PixelOf(run.rate), goodputs_.PixelOf(run.goodput)});
    valid.push_back(run.valid);
  }
  DrawLine(points, valid, kGoodputColour);
  DrawLabels({{.y = points.back().y, .text = "goodput", .colour = kGoodputColour}});
}

// From the top down, each moved below its neighbour where they would touch; equal ones in their
// order.
void Drawing::DrawLabels(std::vector<Label> labels) {
  std::stable_sort(labels.begin(), labels.end(),
                   [](const Label& a, const Label& b) { return a.y < b.y; });
  double free_from = -HUGE_VAL;
  for (const Label& label : labels) {
    const double y = std::max(label.y, free_from);
    free_from = y + kLabelHeight;
    svg_.Text({kRight + 10, y + 4}, label.text, {.colour = label.colour, .size = 12, .bold = true});
  }
}

}  // namespace

std::string DrawLatencyPlot(LatencyPlot plot) {
  std::sort(plot.runs.begin(), plot.runs.end(),
            [](const PlottedRun& a, const PlottedRun& b) { return a.rate < b.rate; });
  return Drawing(plot).Draw();
}

}  // namespace image_variations::client
