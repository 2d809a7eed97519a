// An engine on FakeModelRunner and a simulated clock, and jobs whose listeners remember.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/engine/engine.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {

// Keeps all that it hears.
class Recorder final : public JobListener {
 public:
  void OnProgress(const JobProgress& progress) override {
    steps.push_back(progress.steps_done);
    remaining.push_back(progress.predicted_remaining);
  }
  void OnSample(int index, absl::StatusOr<SampleResult> result) override {
    indices.push_back(index);
    statuses.push_back(result.status());
    if (result.ok()) results.push_back(*std::move(result));
  }
  void OnPreview(int index, int step, CheckedImage picture) override {
    previews.emplace_back(index, step, picture.image().width);
  }
  void OnDone(const JobMetrics& heard) override { metrics.push_back(heard); }

  std::vector<int> steps;
  std::vector<absl::Duration> remaining;  // as predicted
  std::vector<int> indices;
  std::vector<absl::Status> statuses;
  std::vector<SampleResult> results;
  std::vector<JobMetrics> metrics;
  std::vector<std::tuple<int, int, int>> previews;  // sample, step, width
};

class EngineTest : public ::testing::Test, public EngineObserver {
 protected:
  EngineTest() { Start({}); }

  void Start(EngineOptions options, ModelInfo info = FakeModelRunner::DefaultInfo()) {
    auto runner = std::make_unique<FakeModelRunner>(std::move(info));
    runner_ = runner.get();
    runner_->on_call = [this](absl::string_view verb, int) {
      clock_.Advance(verb == "Denoise" ? absl::Milliseconds(10) : absl::Milliseconds(1));
    };
    engine_ = std::make_unique<Engine>(std::move(options), std::move(runner), clock_, *this);
  }
  ~EngineTest() override {
    if (engine_) {
      EXPECT_THAT(runner_->breaches, ::testing::IsEmpty());
    }
  }

  Job MakeJob(uint64_t id, int steps, int samples = 1) {
    auto plan = std::make_shared<SamplerPlan>();
    for (int i = 0; i < steps; ++i) plan->steps.push_back({.timestep = static_cast<float>(i)});
    auto listener = std::make_shared<Recorder>();
    heard_[id] = listener.get();
    return {.id = JobId{id},
            .source = std::make_shared<Image>(Image{1, 1, {7, 0, 0}}),
            .plan = plan,
            .sample_count = samples,
            .seed = 100 * id,
            .latent_width = 8,
            .latent_height = 8,
            .listener = keep_alive_.emplace_back(listener)};
  }

  void RunToTheEnd() {
    for (int ticks = 0; engine_->RunTick(); ++ticks) ASSERT_LT(ticks, 1000);
  }

  void OnSampleEnd(SampleOutcome outcome, int unet_rows) override {
    outcomes_.push_back(outcome);
    rows_of_samples_.push_back(unet_rows);
  }
  void OnTick(const TickReport& tick) override {
    unet_rows_ = tick.unet_rows;
    padded_rows_ = tick.padded_rows;
    batch_key_splits_ += tick.batch_key_splits;
  }
  void OnOutOfMemory(int rows) override { out_of_memory_.push_back(rows); }
  void OnDeviceLost(const absl::Status& why) override { device_lost_.push_back(why); }

  SimulatedClock clock_;
  FakeModelRunner* runner_ = nullptr;
  std::vector<std::shared_ptr<JobListener>> keep_alive_;
  std::map<uint64_t, Recorder*> heard_;
  std::vector<SampleOutcome> outcomes_;
  std::vector<int> rows_of_samples_;
  int unet_rows_ = 0, padded_rows_ = 0;  // of the latest tick
  int batch_key_splits_ = 0;
  std::vector<int> out_of_memory_;
  std::vector<absl::Status> device_lost_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace image_variations
