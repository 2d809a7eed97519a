// SamplerStep as arithmetic on one number: what the model runner does to tensors.
#pragma once

#include <deque>

#include "pipeline/sampler/sampler.h"

namespace image_variations {

struct ScalarLatents {
  double x = 0;
  double anchor = 0;
  std::deque<double> history;  // newest first

  double ModelInput(const SamplerStep& step) const { return step.input_scale * x; }

  void Apply(const SamplerStep& step, double prediction, double noise) {
    if (step.keep) history.push_front(step.keep_sample * x + step.keep_prediction * prediction);
    double next = step.sample * x + step.prediction * prediction + step.anchor * anchor;
    for (size_t k = 0; k < step.history.size() && k < history.size(); ++k) {
      next += step.history[k] * history[k];
    }
    if (step.draws_noise) next += step.noise * noise;
    if (step.save_anchor) anchor = x;
    x = next;
  }
};

}  // namespace image_variations
