// The ModelRunner: keeps the tensors of jobs and slots, and runs the networks on them.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Generator.h"
#include "ATen/core/Tensor.h"
#include "pipeline/engine/model_runner.h"
#include "pipeline/engine/self_test.h"
#include "pipeline/model/call_recorder.h"
#include "pipeline/model/device_memory.h"
#include "pipeline/model/latent_preview.h"
#include "pipeline/model/networks.h"

namespace image_variations {

// Engine thread only. On the CPU a sample's bytes are those of the sample alone: what RowInvariance
// promises for the UNet, and by running everything else one picture at a time.
class NetworkRunner final : public ModelRunner {
 public:
  // `rows` is the one that the networks were loaded with.
  NetworkRunner(Networks, std::unique_ptr<RowInvariance> rows, ModelInfo, int max_slots);

  const ModelInfo& info() const override { return info_; }
  DeviceMemory memory() const override { return ReadDeviceMemory(networks_.placement.device); }
  absl::Status EmbedImage(JobId, const Image& source, Preprocessing) override;
  absl::Status PrepareLatents(absl::Span<const PrepareRow>) override;
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow>, int padded_rows) override;
  absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId>) override;
  absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId>) override;
  absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow>) override;
  void Forget(JobId) override;

  // What tests and the start-up self-test look at, in inference mode.
  // Each sample's noise prediction, guided; float64, of float32 values.
  std::vector<at::Tensor> PredictNoise(absl::Span<const StepRow>, int padded_rows);
  const at::Tensor& latents(SlotId slot) const { return slots_.at(slot).latents; }
  const at::Tensor& image_embeds(JobId job) const { return jobs_.at(job).image_embeds; }
  const Networks& networks() const { return networks_; }
  const RowInvariance& rows() const { return *rows_; }
  size_t embedded_jobs() const { return jobs_.size(); }
  int64_t tower_runs() const { return tower_runs_; }  // pictures that a vision tower has looked at
  // As EmbedImage, but for the tower's run and with nothing to compare results with.
  void ConditionAtRandom(JobId);
  // Decodes a few small pictures; from then on PreviewLatents works.
  absl::Status FitPreviews();
  void SetSelfTest(SelfTestResult result) {
    info_.reproducible = result.is_reproducible;
    info_.timed_calls = std::move(result.calls);
  }
  void SetIdentity(std::map<std::string, std::string> component_sha256, std::string fingerprint) {
    info_.component_sha256 = std::move(component_sha256);
    info_.fingerprint = std::move(fingerprint);
  }

 private:
  // One sample between its steps; (1, channels, h, w) on the device. float64: float32 would lose
  // three digits in one step of a schedule that begins at sigma 8000.
  struct Slot {
    at::Tensor latents;
    at::Tensor anchor;
    std::deque<at::Tensor> history;  // newest first
    at::Tensor input, prediction;    // of the latest step: what the UNet saw, and said
    double input_scale = 1;
    float timestep = 0;
    at::Generator generator;  // on the CPU; stochastic samplers draw on from it
  };
  struct EmbeddedJob {
    at::Tensor image_embeds;  // as the job's preprocessing has it
    at::Tensor clip_embeds;   // what results are compared with: CLIP's own preprocessing
    at::Tensor context;       // (1, Unet::context_width)
  };

  absl::Status CheckRows(absl::Span<const StepRow>) const;
  at::Tensor Embed(const at::Tensor& pixels);
  ImageScores Score(const Image&, const at::Tensor& source_embeds);
  // The arguments of Unet::Forward.
  struct UnetBatch {
    at::Tensor latents, time_biases, context, sample_of_row;
  };
  template <typename Body>
  auto Guard(absl::string_view stage, Body) -> decltype(std::declval<Body>()());
  UnetBatch Assemble(absl::Span<const StepRow>, int padded_rows);
  at::Tensor TimeBiases(float timestep);
  at::Tensor DrawNoise(at::Generator&, at::IntArrayRef shape) const;
  Slot Advance(const Slot&, const SamplerStep&, const at::Tensor& prediction) const;

  const Networks networks_;
  const std::unique_ptr<RowInvariance> rows_;
  ModelInfo info_;
  const int max_slots_;
  CallRecorder unet_calls_;
  std::map<SlotId, Slot> slots_;
  std::map<JobId, EmbeddedJob> jobs_;
  std::map<float, at::Tensor> time_biases_;  // of timesteps met lately
  int64_t tower_runs_ = 0;
  std::optional<LatentPreview> preview_;
  std::vector<float> alphas_cumprod_;  // of the noise schedule, for previews
};

}  // namespace image_variations
