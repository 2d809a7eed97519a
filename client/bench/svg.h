// The little of SVG 1.1 that a plot needs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace image_variations::client {

struct Point {
  double x = 0, y = 0;  // pixels, from the top left
};

struct Stroke {
  std::string colour = "#000";
  double width = 1;
  std::string dashes = {};  // "4 3"; empty: none
};

enum class TextAnchor { kStart, kMiddle, kEnd };

struct TextStyle {
  std::string colour = "#000";
  int size = 12;  // pixels
  TextAnchor anchor = TextAnchor::kStart;
  bool bold = false;
};

// Thread-compatible value. Later things cover earlier ones.
class Svg {
 public:
  Svg(int width, int height) : width_(width), height_(height) {}

  void Rectangle(Point top_left, Point bottom_right, const std::string& fill);
  void Line(Point from, Point to, const Stroke&);
  void Polyline(const std::vector<Point>&, const Stroke&);
  void Circle(Point centre, double radius, const std::string& fill, const Stroke&);
  // `at`: on the baseline. Any UTF-8.
  void Text(Point at, absl::string_view text, const TextStyle&);

  std::string str() const;  // a whole file

 private:
  const int width_, height_;
  std::string body_;
};

}  // namespace image_variations::client
