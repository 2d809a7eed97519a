#include "client/bench/axis.h"

#include <algorithm>
#include <cmath>

namespace image_variations::client {
namespace {

constexpr double kRoom = 1.08;  // of the highest value
constexpr int kAboutTicks = 5;
constexpr double kManyDecades = 1e4;  // from there on 1, 10, 100, ... are ticks enough

// The least of 1, 2, 5, 10, 20, ... that is not below `value`.
double RoundUp(double value) {
  const double decade = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * decade >= value * (1 - 1e-9)) return factor * decade;
  }
  return 10 * decade;
}

bool IsDecade(double value) {
  const double exponent = std::log10(value);
  return std::abs(exponent - std::round(exponent)) < 1e-6;
}

}  // namespace

Axis Axis::Linear(double high, double first_pixel, double last_pixel) {
  return Axis(false, 0, high > 0 ? high * kRoom : 1, first_pixel, last_pixel);
}

Axis Axis::Logarithmic(double low, double high, double first_pixel, double last_pixel) {
  return Axis(true, low / 1.15, high * 1.15, first_pixel, last_pixel);
}

Axis Axis::Fitting(double low, double high, double ratio, double first_pixel, double last_pixel) {
  return low > 0 && high > ratio * low ? Logarithmic(low, high, first_pixel, last_pixel)
                                       : Linear(high, first_pixel, last_pixel);
}

double Axis::PixelOf(double value) const {
  const double inside = std::clamp(value, low_, high_);
  const double share = logarithmic_ ? std::log(inside / low_) / std::log(high_ / low_)
                                    : (inside - low_) / (high_ - low_);
  return first_pixel_ + share * (last_pixel_ - first_pixel_);
}

std::vector<double> Axis::Ticks() const {
  std::vector<double> ticks;
  if (!logarithmic_) {
    const double step = RoundUp((high_ - low_) / kAboutTicks);
    for (int i = 0; i * step <= high_; ++i) ticks.push_back(i * step);
    return ticks;
  }
  double tick = RoundUp(low_);
  while (tick <= high_) {
    ticks.push_back(tick);
    tick = RoundUp(tick * 1.01);
  }
  if (high_ > kManyDecades * low_) {
    std::erase_if(ticks, [](double one) { return !IsDecade(one); });
  }
  return ticks;
}

}  // namespace image_variations::client
