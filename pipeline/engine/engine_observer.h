// What the engine tells the outside about its work: metrics are made of it, nothing is decided by
// it.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "pipeline/engine/cost_model.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// One turn of the loop.
struct TickReport {
  int running_samples = 0;  // holding a slot after the tick
  int waiting_samples = 0;
  int unet_rows = 0;  // 0: no UNet call in this tick
  int padded_rows = 0;
  int batch_key_splits = 0;  // calls with rows left that others needed, but for their latent size
  int embedded_jobs = 0;
  int decoded_samples = 0;
  absl::Duration embed_time;
  absl::Duration denoise_time;
  absl::Duration latents_decode_time;
  absl::Duration safety_time;
  absl::Duration predicted_backlog;      // as EngineStatus::predicted_backlog
  const CostModel* cost = nullptr;       // while the observer is called
  std::optional<DeviceMemory> memory{};  // once a second
};

enum class SampleOutcome { kGenerated, kFiltered, kFailed, kCancelled, kExpired };

// Called on the engine thread; must not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnTick(const TickReport&) {}
  // `unet_rows`: computed for this sample, whatever became of it.
  virtual void OnSampleEnd(SampleOutcome, int /*unet_rows*/) {}
  // A UNet call of so many rows, or a decode of so many pictures.
  virtual void OnOutOfMemory(int /*how_many_failed*/) {}
  // Once. Every open job was answered with UNAVAILABLE, and so is every later one.
  virtual void OnDeviceLost(const absl::Status& /*why*/) {}
};

}  // namespace image_variations
