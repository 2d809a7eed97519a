#pragma once

#include <vector>

namespace image_variations::client {

// One axis of a plot: values on a line of pixels, evenly by difference or by ratio. A value.
class Axis {
 public:
  // From 0, or as near as makes room for a little more than `high`.
  static Axis Linear(double high, double first_pixel, double last_pixel);
  // 0 < low <= high, with some room around both.
  static Axis Logarithmic(double low, double high, double first_pixel, double last_pixel);
  // Logarithmic if linear would squeeze the low values: where high / low is above `ratio`.
  static Axis Fitting(double low, double high, double ratio, double first_pixel, double last_pixel);

  double PixelOf(double value) const;  // outside of the axis: at its end
  std::vector<double> Ticks() const;   // round values, ascending
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  Axis(bool logarithmic, double low, double high, double first_pixel, double last_pixel)
      : logarithmic_(logarithmic),
        low_(low),
        high_(high),
        first_pixel_(first_pixel),
        last_pixel_(last_pixel) {}

  bool logarithmic_;
  double low_, high_;
  double first_pixel_, last_pixel_;
};

}  // namespace image_variations::client
