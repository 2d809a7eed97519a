// A request as the engine sees it: values, and one listener that hears what became of it.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "pipeline/engine/safety_policy.h"
#include "pipeline/image/image.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

enum class JobId : uint64_t {};

// How the source picture becomes the image encoder's input.
enum class Preprocessing {
  kModelCard,      // resized to the tower's size, bicubic, no antialias, no crop
  kClipProcessor,  // shortest edge, antialiased bicubic, centre crop
};
// The similarity of results needs the second one's embedding whichever conditions the UNet.
constexpr int TowerRunsOf(Preprocessing preprocessing) {
  return preprocessing == Preprocessing::kModelCard ? 2 : 1;
}

enum class Priority { kInteractive, kBatch };

struct LatentSize {
  int width = 0;
  int height = 0;

  auto operator<=>(const LatentSize&) const = default;
  int64_t area() const { return int64_t{width} * height; }
};

// One picture that a job asked for, judged.
struct SampleResult {
  CheckedImage image;
  // Cosine of source and result in the image encoder's embedding space, -1 to 1; absent when it
  // is not a finite number.
  std::optional<float> similarity{};
};

struct JobProgress {
  int steps_done = 0;  // UNet calls, over all samples of the job
  int steps_total = 0;
  int samples_open = 0;   // not answered yet
  int samples_fresh = 0;  // of those, without any step
  absl::Duration predicted_remaining;
};

// Where a job's time went. Stage times are those of the shared calls that the job took part in.
struct JobMetrics {
  absl::Duration queue_time;  // submitted -> first stage begins
  absl::Duration embed_time;
  absl::Duration denoise_time;  // first step begins -> last step ends
  absl::Duration latents_decode_time;
  absl::Duration safety_time;
  int64_t unet_rows = 0;       // rows computed for this job
  double mean_batch_rows = 0;  // rows in the UNet calls that it shared
};

// Called on the engine thread; must not block and must not call back into the engine.
class JobListener {
 public:
  virtual ~JobListener() = default;

  // After each tick in which a sample of the job took a step.
  virtual void OnProgress(const JobProgress&) = 0;
  // After every preview_interval_steps of a sample but the last one. Blocked under
  // SafetyMode::kRequired: nothing is shown that the safety checker has not seen.
  virtual void OnPreview(int /*index*/, int /*step*/, CheckedImage) {}
  // Exactly once per sample, in the order in which they end. Non-OK: why there is no picture.
  virtual void OnSample(int index, absl::StatusOr<SampleResult>) = 0;
  // Once, after the last OnSample. The engine drops the listener after it.
  virtual void OnDone(const JobMetrics&) = 0;
};

struct Job {
  JobId id{};
  std::shared_ptr<const Image> source;
  Preprocessing preprocessing = Preprocessing::kModelCard;
  std::shared_ptr<const SamplerPlan> plan;
  int sample_count = 1;
  uint64_t seed = 0;  // sample i draws from seed + i: its picture does not depend on its batch
  float guidance_scale = 3;  // <= 1: no guidance, one UNet row per sample instead of two
  int latent_width = 0;
  int latent_height = 0;
  Priority priority = Priority::kInteractive;
  absl::Time deadline = absl::InfiniteFuture();
  absl::Duration answer_time;  // of its pictures on their way to the caller, before the deadline
  int preview_interval_steps = 0;  // 0: no previews
  int preview_max_side = 0;        // pixels; 0: as the model draws them
  std::string caller;              // jobs of one caller stand in line behind each other
  std::shared_ptr<JobListener> listener;
};

// Rows that one sample of such a job takes in a UNet call.
inline int RowsPerStep(float guidance_scale) { return guidance_scale > 1 ? 2 : 1; }

}  // namespace image_variations
