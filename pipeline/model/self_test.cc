#include "pipeline/model/self_test.h"

#include <algorithm>

#include "ATen/ops/equal.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

// A job id that no client gets.
constexpr JobId kTrialJob{~uint64_t{0}};

constexpr SamplerStep kSteps[] = {
    {.timestep = 981, .sample = 1.02f, .prediction = -0.1f},
    {.timestep = 480.5f, .input_scale = 0.4f, .prediction = -0.7f},
};

// Every other sample is not guided; its timestep and scale are others too.
StepRow TrialRow(SlotId slot) {
  return {.slot = slot,
          .job = kTrialJob,
          .step = &kSteps[slot % 2],
          .guidance_scale = slot % 2 == 1 ? 1.0f : 3.0f};
}

// The latents of `slots`, each side x side, after one step from the start, all in one call.
absl::StatusOr<std::vector<at::Tensor>> StepTogether(NetworkRunner& runner, int side,
                                                     const std::vector<SlotId>& slots) {
  std::vector<PrepareRow> prepare;
  std::vector<StepRow> rows;
  int unet_rows = 0;
  for (const SlotId slot : slots) {
    prepare.push_back({.slot = slot,
                       .seed = static_cast<uint64_t>(slot),
                       .latent_width = side,
                       .latent_height = side});
    rows.push_back(TrialRow(slot));
    unet_rows += RowsPerStep(rows.back().guidance_scale);
  }
  RETURN_IF_ERROR(runner.PrepareLatents(prepare));
  RETURN_IF_ERROR(runner.Denoise(rows, unet_rows).status());
  std::vector<at::Tensor> latents;
  for (const SlotId slot : slots) latents.push_back(runner.latents(slot));
  return latents;
}

absl::StatusOr<bool> SameInCompany(NetworkRunner& runner, int side, int max_samples) {
  std::vector<at::Tensor> alone;
  for (SlotId slot = 0; slot < max_samples; ++slot) {
    ASSIGN_OR_RETURN(const std::vector<at::Tensor> latents, StepTogether(runner, side, {slot}));
    alone.push_back(latents[0]);
  }
  for (int samples = 2; samples <= max_samples; samples += (samples + 1) / 2) {
    std::vector<SlotId> slots;
    for (SlotId slot = 0; slot < samples; ++slot) slots.push_back(slot);
    std::rotate(slots.begin(), slots.begin() + samples / 2, slots.end());
    ASSIGN_OR_RETURN(const std::vector<at::Tensor> latents, StepTogether(runner, side, slots));
    for (size_t i = 0; i < slots.size(); ++i) {
      if (!at::equal(latents[i], alone[static_cast<size_t>(slots[i])])) return false;
    }
  }
  return true;
}

// Multiplications of the widest convolution for one sample. The network takes about a hundred times
// as many.
int64_t WidestProduct(const NetworkRunner& runner, int side) {
  const at::Tensor& widest = runner.networks().unet.mid_block.resnets[0].block.conv1.weight;
  return int64_t{side} * side * widest.numel();
}

// A full-size network on a CPU takes seconds for a row of the model's own size. There nearly every
// operation of it runs row by row, by construction; those of a smaller size are tried together, so
// that it is the harder test.
constexpr int64_t kQuickProduct = 5'000'000'000;

int TrialSide(const NetworkRunner& runner) {
  const auto levels = runner.networks().unet.down_blocks.size();
  const int smallest = 1 << levels;  // the deepest level has more than one position
  int side = runner.info().default_width / runner.info().latent_factor;
  if (!runner.networks().placement.device.is_cpu()) return side;
  while (side / 2 >= smallest && side % 2 == 0 && WidestProduct(runner, side) > kQuickProduct) {
    side /= 2;
  }
  return side;
}

Image TrialPicture() {
  constexpr int kSide = 64;
  Image image{kSide, kSide, {}};
  for (int i = 0; i < 3 * kSide * kSide; ++i) {
    image.rgb.push_back(static_cast<uint8_t>(i * 7 + i / kSide));
  }
  return image;
}

}  // namespace

absl::StatusOr<bool> IsReproducible(NetworkRunner& runner, int max_slots, int max_rows) {
  RETURN_IF_ERROR(runner.EmbedImage(kTrialJob, TrialPicture(), Preprocessing::kModelCard));
  const int side = TrialSide(runner);
  const auto affordable = static_cast<int>(2 * kQuickProduct / WidestProduct(runner, side));
  const int samples = std::min({std::max(max_rows / 2, 2), std::max(affordable, 2), max_slots});
  absl::StatusOr<bool> same = SameInCompany(runner, side, samples);
  runner.Forget(kTrialJob);
  return same;
}

}  // namespace image_variations
