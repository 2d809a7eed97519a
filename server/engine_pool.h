// One engine for each device that computes.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/clock.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/engine.h"
#include "server/engine_thread.h"
#include "server/lifecycle.h"
#include "server/metrics.h"

namespace image_variations {

// All run the same model; a request has one of them for all of its samples.
class EnginePool {
 public:
  // Begins to load on the first device. One factory for each; what is referred to must outlive it.
  EnginePool(EngineOptions, std::vector<ModelRunnerFactory>, const Clock&, Lifecycle&, Metrics&);
  ~EnginePool();  // as ~EngineThread

  // Blocks until the model is loaded and has run once on every device, one after the other: two
  // that share their processors would measure each other. Else why not, of the first that failed.
  // What is below needs it to have ended with OK; engines live as long as this object.
  absl::Status WaitUntilWarm();

  int size() const { return static_cast<int>(engines_.size()); }
  Engine& at(int device) const { return *engines_[static_cast<size_t>(device)]; }
  std::vector<CostModel> costs() const;
  // Where it is told what becomes of a device.
  EngineObserver& observer(int device) const;

 private:
  class Tap;

  void BeginToLoad();

  const EngineOptions options_;
  const Clock& clock_;
  std::vector<ModelRunnerFactory> factories_;
  std::vector<std::unique_ptr<Tap>> taps_;
  std::vector<std::unique_ptr<EngineThread>> threads_;
  std::vector<Engine*> engines_;  // warm
};

}  // namespace image_variations
