#include "server/engine_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {

// Metrics hear everything of an engine, the lifecycle of the loss of its device.
class EnginePool::Tap final : public EngineObserver {
 public:
  Tap(std::string name, Lifecycle& lifecycle, EngineObserver& metrics)
      : name_(std::move(name)), lifecycle_(lifecycle), metrics_(metrics) {}

  void OnTick(const TickReport& report) override { metrics_.OnTick(report); }
  void OnSampleEnd(SampleOutcome outcome, int unet_rows) override {
    metrics_.OnSampleEnd(outcome, unet_rows);
  }
  void OnOutOfMemory(int how_many_failed) override { metrics_.OnOutOfMemory(how_many_failed); }
  void OnDeviceLost(const absl::Status& why) override {
    metrics_.OnDeviceLost(why);
    lifecycle_.OnDeviceLost(absl::Status(why.code(), absl::StrCat(name_, why.message())));
  }

 private:
  const std::string name_;
  Lifecycle& lifecycle_;
  EngineObserver& metrics_;
};

EnginePool::EnginePool(EngineOptions options, std::vector<ModelRunnerFactory> factories,
                       const Clock& clock, Lifecycle& lifecycle, Metrics& metrics)
    : options_(std::move(options)), clock_(clock), factories_(std::move(factories)) {
  const int size = static_cast<int>(factories_.size());
  IV_CHECK(size > 0);
  for (int i = 0; i < size; ++i) {
    const std::string name = size > 1 ? absl::StrCat("engine ", i, ": ") : "";
    taps_.push_back(std::make_unique<Tap>(name, lifecycle, metrics.engine(i)));
  }
  BeginToLoad();
}

EnginePool::~EnginePool() = default;

void EnginePool::BeginToLoad() {
  const size_t next = threads_.size();
  threads_.push_back(
      std::make_unique<EngineThread>(options_, std::move(factories_[next]), clock_, *taps_[next]));
}

absl::Status EnginePool::WaitUntilWarm() {
  while (true) {
    ASSIGN_OR_RETURN(Engine * engine, threads_.back()->WaitUntilWarm());
    engines_.push_back(engine);
    if (engines_.size() == factories_.size()) return absl::OkStatus();
    BeginToLoad();
  }
}

std::vector<CostModel> EnginePool::costs() const {
  std::vector<CostModel> costs;
  for (const Engine* engine : engines_) costs.push_back(engine->status().cost);
  return costs;
}

EngineObserver& EnginePool::observer(int device) const {
  return *taps_[static_cast<size_t>(device)];
}

}  // namespace image_variations
