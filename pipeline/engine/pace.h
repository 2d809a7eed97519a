// How real time runs beside predicted time.
#pragma once

#include "absl/time/time.h"

namespace image_variations {

// Real seconds of a predicted one, over windows of some ticks: the calls' own costs are tracked
// elsewhere, this sees what the loop does between them and what else the machine does.
// Thread-compatible.
class Pace {
 public:
  // Of one tick. What took more than three times its prediction counts as that.
  void Observe(absl::Duration predicted, absl::Duration real);

  // What predictions are multiplied with; 1 while nothing was observed.
  double factor() const { return factor_; }
  // The share by which a multiplied prediction has to be expected to fall short; 0 in a world
  // without chance.
  double margin() const;

 private:
  double factor_ = 1;
  double deviation_ = 0;             // mean, of windows, as a share of factor_
  double predicted_ = 0, real_ = 0;  // of the running window, in seconds ...
  int ticks_ = 0;                    // ... and its ticks
};

}  // namespace image_variations
