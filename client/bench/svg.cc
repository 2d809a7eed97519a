#include "client/bench/svg.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace image_variations::client {
namespace {

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string Attributes(const Stroke& stroke) {
  std::string text =
      absl::StrFormat(" stroke=\"%s\" stroke-width=\"%g\"", stroke.colour, stroke.width);
  if (!stroke.dashes.empty()) absl::StrAppend(&text, " stroke-dasharray=\"", stroke.dashes, "\"");
  return text;
}

const char* NameOf(TextAnchor anchor) {
  switch (anchor) {
    case TextAnchor::kMiddle:
      return "middle";
    case TextAnchor::kEnd:
      return "end";
    case TextAnchor::kStart:
      break;
  }
  return "start";
}

}  // namespace

void Svg::Rectangle(Point top_left, Point bottom_right, const std::string& fill) {
  absl::StrAppendFormat(
      &body_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
      top_left.x, top_left.y, bottom_right.x - top_left.x, bottom_right.y - top_left.y, fill);
}

void Svg::Line(Point from, Point to, const Stroke& stroke) {
  absl::StrAppendFormat(&body_, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"%s/>\n",
                        from.x, from.y, to.x, to.y, Attributes(stroke));
}

void Svg::Polyline(const std::vector<Point>& points, const Stroke& stroke) {
  absl::StrAppend(&body_, "<polyline points=\"");
  for (const Point& point : points) absl::StrAppendFormat(&body_, "%.1f,%.1f ", point.x, point.y);
  absl::StrAppend(&body_, "\" fill=\"none\" stroke-linejoin=\"round\"", Attributes(stroke), "/>\n");
}

void Svg::Circle(Point centre, double radius, const std::string& fill, const Stroke& stroke) {
  absl::StrAppendFormat(&body_, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"%s/>\n",
                        centre.x, centre.y, radius, fill, Attributes(stroke));
}

void Svg::Text(Point at, absl::string_view text, const TextStyle& style) {
  absl::StrAppendFormat(
      &body_,
      "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" font-size=\"%d\" text-anchor=\"%s\"%s>%s</text>\n",
      at.x, at.y, style.colour, style.size, NameOf(style.anchor),
      style.bold ? " font-weight=\"600\"" : "", Escape(text));
}

std::string Svg::str() const {
  return absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n%s</svg>\n",
      width_, height_, width_, height_, body_);
}

}  // namespace image_variations::client
