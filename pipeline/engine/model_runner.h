// The neural networks behind seven verbs: the only seam to LibTorch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "pipeline/engine/job.h"
#include "pipeline/engine/safety_policy.h"
#include "pipeline/image/image.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {

// Place of one sample's latents: 0 to max_slots - 1.
using SlotId = int;

// A sample that takes a slot: its latents are drawn from its own seed (low 32 bits, as torch's CPU
// generator).
struct PrepareRow {
  SlotId slot = 0;
  uint64_t seed = 0;
  int latent_width = 0;
  int latent_height = 0;
  float init_noise_sigma = 1;
};

// One sample's share of a UNet call: one row, or two when it is guided.
struct StepRow {
  SlotId slot = 0;
  JobId job{};  // whose embedding conditions it
  const SamplerStep* step = nullptr;
  float guidance_scale = 1;
};

// A decoded picture to be scored, and the job whose source it is compared with.
struct ScoreRow {
  JobId job{};
  const Image* image = nullptr;
};

struct ImageScores {
  SafetyScores safety;  // empty when the checkpoint has no safety checker
  // Cosine of the job's source embedding and this picture's; absent when it is not finite.
  std::optional<float> similarity{};
};

// Of the device that computes, by everybody on it.
struct DeviceMemory {
  int64_t used_bytes = 0;
  int64_t limit_bytes = 0;
};

// What a UNet call took, without what is done but once.
struct TimedCall {
  LatentSize size;
  int rows = 0;
  absl::Duration time;
};

// What is loaded: told to clients by GetModel.
struct ModelInfo {
  std::string model_id;
  std::string revision;
  std::map<std::string, std::string> component_sha256;
  std::string device;         // "cpu", "cuda:0"
  std::string dtype;          // "fp32", "bf16", "fp16"
  std::string fingerprint;    // equal fingerprint + equal parameters = equal bytes
  bool reproducible = false;  // proved at start: a sample's bytes do not depend on its batch
  bool has_safety_checker = false;
  bool has_one_tower = false;  // ScoreImages looks at pictures with what EmbedImage looks with
  bool has_previews = false;   // PreviewLatents works
  SamplerConfig sampler;
  int latent_factor = 8;  // pixels per latent element; sizes are multiples of it
  int default_width = 512;
  int default_height = 512;
  // Row counts that UNet calls are padded to, ascending (RowBuckets). Empty: they have any.
  std::vector<int> row_buckets;
  // UNet calls of the start-up self-test: a warm-up need not repeat long ones.
  std::vector<TimedCall> timed_calls;
};

// Owns every tensor; callers speak in slots and jobs. Engine thread only.
// A non-OK status means that the call changed nothing:
//   RESOURCE_EXHAUSTED  out of device memory: the same call with fewer rows may work
//   INTERNAL            this call failed; the runner is fine
//   DATA_LOSS           the device is gone: stop serving, exit
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual const ModelInfo& info() const = 0;
  virtual DeviceMemory memory() const { return {}; }  // zeros: not known

  // Embeds the source and keeps what conditions the UNet, until Forget(job). An embedding that is
  // not finite: NonFiniteError("embed").
  virtual absl::Status EmbedImage(JobId job, const Image& source, Preprocessing) = 0;
  virtual absl::Status PrepareLatents(absl::Span<const PrepareRow>) = 0;
  // One UNet call over rows of one latent size, of any mix of steps, samplers and guidance, then
  // each sample's update. padded_rows: size of the UNet batch, at least the rows that the samples
  // take; one of row_buckets if there are any. [i] = the latents of row i are finite.
  virtual absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow>, int padded_rows) = 0;
  // VAE, clamped and rounded to 8 bits. nullopt: that picture has values that are not finite.
  virtual absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId>) = 0;
  // What each slot's latest step predicts its picture to be: a pixel for each latent, by a map that
  // costs next to nothing. Of slots that were denoised; UNIMPLEMENTED without has_previews.
  virtual absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId>) = 0;
  virtual absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow>) = 0;
  virtual void Forget(JobId job) = 0;  // unknown jobs are ignored
};

}  // namespace image_variations
