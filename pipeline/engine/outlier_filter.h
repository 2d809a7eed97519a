// Tells a hiccup from a device that has become slower.
#pragma once

namespace image_variations {

// Of measured times, one after the other. Thread-compatible.
class OutlierFilter {
 public:
  enum class Verdict { kUsual, kHiccup, kSlowerFromNowOn };

  // A time of more than three predictions is a hiccup, until the third of them in a row.
  Verdict Judge(double seconds, double predicted) {
    if (seconds <= 3 * predicted || predicted <= 0) {
      slow_in_a_row_ = 0;
      return Verdict::kUsual;
    }
    return ++slow_in_a_row_ < 3 ? Verdict::kHiccup : Verdict::kSlowerFromNowOn;
  }

 private:
  int slow_in_a_row_ = 0;
};

}  // namespace image_variations
