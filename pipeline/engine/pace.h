// How real time runs beside predicted time.
#pragma once

#include "absl/time/time.h"

namespace image_variations {

// What is to be kept free before a deadline, as predictions err. Times are in seconds.
struct Margin {
  double share = 0;    // of the time that is predicted
  double seconds = 0;  // and always: the chance of the last few ticks does not even out

  double On(double predicted) const { return (1 + share) * predicted + seconds; }
  // The most that may be predicted when so much time is left.
  double Within(double left) const { return (left - seconds) / (1 + share); }
};

// Real seconds of a predicted one, over windows of some ticks: the calls' own costs are tracked
// elsewhere, this sees what the loop does between them and what else the machine does.
// Thread-compatible.
class Pace {
 public:
  // Of one tick. What took more than three times its prediction counts as that.
  void Observe(absl::Duration predicted, absl::Duration real);

  // What predictions are multiplied with; 1 while nothing was observed.
  double factor() const { return factor_; }
  // By which multiplied predictions have to be expected to fall short; none in a world without
  // chance.
  Margin margin() const;

 private:
  double factor_ = 1;
  double deviation_ = 0;             // mean, of windows, as a share of factor_
  double chance_ = 0;                // mean deviation of a tick, in seconds
  double predicted_ = 0, real_ = 0;  // of the running window, in seconds ...
  int ticks_ = 0;                    // ... and its ticks
};

}  // namespace image_variations
