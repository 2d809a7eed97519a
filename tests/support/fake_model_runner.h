// A ModelRunner without networks, for tests of everything above the seam.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

// Keeps one number per slot instead of latents: a sample's picture is a flat image whose bytes
// depend on its own seed, source, plan and guidance, and on nothing else - company that changed it
// would show: compare with ExpectedPicture.
//
// Checks its caller: a slot is prepared before it is denoised, a job is embedded before its rows
// run, steps come in the order of the plan, no slot twice in a call, one latent size in a call. A
// breach is kept in `breaches`, for tests to expect empty.
//
// Faults are planted through `fault`: asked before each call with its verb ("EmbedImage",
// "Denoise", ...) and rows (of an embedding: runs of the tower); a non-OK status is returned as the
// call's. `on_call` hears of every call first and may advance a simulated clock.
class FakeModelRunner final : public ModelRunner {
 public:
  explicit FakeModelRunner(ModelInfo info = DefaultInfo());

  static ModelInfo DefaultInfo();  // 64x64 pictures, latent_factor 8, PNDM, a safety checker
  static Image ExpectedPicture(const Job&, int index, int latent_factor = 8);

  const ModelInfo& info() const override { return info_; }
  absl::Status EmbedImage(JobId, const Image& source, Preprocessing) override;
  absl::Status PrepareLatents(absl::Span<const PrepareRow>) override;
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow>, int padded_rows) override;
  absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId>) override;
  // A picture of one colour: the slot's number of steps, three times.
  absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId>) override;
  absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow>) override;
  void Forget(JobId) override;

  std::function<absl::Status(absl::string_view verb, int rows)> fault;
  std::function<void(absl::string_view verb, int rows)> on_call;
  std::function<void(absl::Span<const StepRow>)> on_denoise;
  // What a sample's place in its call, of `call_rows` rows, adds to its latents: kernels that
  // depend on the batch. Zero: nothing.
  std::function<uint64_t(int call_rows, int first_row)> depends_on_batch;
  std::set<uint64_t> seeds_not_finite;  // samples whose latents go bad ...
  int step_not_finite = 2;              // ... at this step of theirs
  std::set<uint64_t> seeds_unsafe;      // samples that the safety scores flag
  std::vector<std::string> breaches;

  size_t embedded_jobs() const { return embeddings_.size(); }
  std::string LatentsOf(SlotId slot) const { return std::to_string(slots_.at(slot).state); }
  void SetReproducible(bool reproducible) { info_.reproducible = reproducible; }

 private:
  struct Latents {
    uint64_t seed = 0;
    int width = 0;
    int height = 0;
    const SamplerStep* last_step = nullptr;
    int steps = 0;
    uint64_t state = 0;
  };

  absl::Status Begin(absl::string_view verb, int rows);
  void Expect(bool condition, absl::string_view breach);

  ModelInfo info_;
  std::map<JobId, uint64_t> embeddings_;
  std::map<SlotId, Latents> slots_;
  std::map<uint64_t, uint64_t> seed_of_state_;  // of decoded pictures
};

}  // namespace image_variations
