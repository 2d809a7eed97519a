// A ModelRunner that fails when it is told to: for tests, and for the hidden flag --inject-faults.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

enum class FaultKind { kOutOfMemory, kFailure, kDeviceError, kDeviceLost, kNotFinite, kHang };

// What becomes of the call-th call of a stage, counted from 1 and from the first job on.
struct Fault {
  std::string stage;
  int call = 0;
  FaultKind kind = FaultKind::kFailure;
  int cuda_error = 0;  // of kDeviceError
  int engine = 0;      // of several

  bool operator==(const Fault&) const = default;
};

// "denoise:3=oom,decode:1=nan": STAGE:CALL=KIND with the stages embed, prepare, denoise, decode,
// score and the kinds oom, fail, lost, hang, cuda-N (as when CUDA says error N) and, but for
// prepare, nan (of the call's first sample). "1/denoise:3=oom" is for engine 1, without that it is
// for engine 0. INVALID_ARGUMENT quotes what it does not know.
absl::StatusOr<std::vector<Fault>> ParseFaults(absl::string_view spec);

// Passes calls on to the runner that it wraps, but for those with a fault. Engine thread only.
class FaultInjector final : public ModelRunner {
 public:
  // `hang` is called for kHang; it may return.
  FaultInjector(std::unique_ptr<ModelRunner>, std::vector<Fault>, std::function<void()> hang);

  const ModelInfo& info() const override { return runner_->info(); }
  DeviceMemory memory() const override { return runner_->memory(); }
  absl::Status EmbedImage(JobId, const Image& source, Preprocessing) override;
  absl::Status PrepareLatents(absl::Span<const PrepareRow>) override;
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow>, int padded_rows) override;
  absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId>) override;
  absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow>) override;
  absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId> slots) override {
    return runner_->PreviewLatents(slots);
  }
  void Forget(JobId job) override { runner_->Forget(job); }

 private:
  // What the call now made of this stage ends with. `is_finite`: false for kNotFinite.
  absl::Status Begin(absl::string_view stage, bool* is_finite);

  const std::unique_ptr<ModelRunner> runner_;
  const std::vector<Fault> faults_;
  const std::function<void()> hang_;
  bool has_job_ = false;  // the warm-up is over
  std::map<std::string, int, std::less<>> calls_;
};

}  // namespace image_variations
