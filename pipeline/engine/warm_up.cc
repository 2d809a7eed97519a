#include "pipeline/engine/warm_up.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "pipeline/base/status_macros.h"
#include "pipeline/engine/row_buckets.h"

namespace image_variations {
namespace {

constexpr JobId kWarmUpJob{0};
constexpr absl::Duration kLongCall = absl::Milliseconds(300);  // nothing else weighs
constexpr absl::Duration kLongTurn = absl::Milliseconds(500);  // of the other stages: likewise
constexpr int kRowsForAShape = 2;  // fewer say nothing of more; more of long calls say little else

constexpr int kSmallPicture = 4;  // its side is the default's divided by this

int64_t LatentArea(const ModelInfo& info, int shrink = 1) {
  return int64_t{info.default_width / info.latent_factor / shrink} *
         (info.default_height / info.latent_factor / shrink);
}

// Latents of the model's default size, each side divided by `shrink`.
absl::Status PrepareSlots(ModelRunner& runner, int slots, int shrink = 1) {
  const ModelInfo& info = runner.info();
  std::vector<PrepareRow> rows;
  for (SlotId slot = 0; slot < slots; ++slot) {
    rows.push_back({.slot = slot,
                    .seed = static_cast<uint64_t>(slot),
                    .latent_width = info.default_width / info.latent_factor / shrink,
                    .latent_height = info.default_height / info.latent_factor / shrink});
  }
  return runner.PrepareLatents(rows);
}

// One UNet call of `rows` unguided samples; how long it took.
absl::StatusOr<absl::Duration> TimeCall(ModelRunner& runner, const Clock& clock, int rows,
                                        int shrink) {
  RETURN_IF_ERROR(PrepareSlots(runner, rows, shrink));
  const SamplerStep step{.timestep = 500};
  std::vector<StepRow> step_rows;
  for (SlotId slot = 0; slot < rows; ++slot) step_rows.push_back({slot, kWarmUpJob, &step, 1});
  const absl::Time begin = clock.Now();
  ASSIGN_OR_RETURN(const std::vector<bool> finite,
                   runner.Denoise(step_rows, PaddedRows(runner.info().row_buckets, rows)));
  const absl::Duration time = clock.Now() - begin;
  if (std::ranges::count(finite, false) > 0) {
    return absl::InternalError("the UNet's output is not finite");
  }
  return time;
}

// All but the UNet. A small picture shows that they run and, scaled, what the VAE takes: at full
// size it would take a gigabyte and, on a CPU, half a minute. The tower sees every picture in its
// own size, a source once here, where the usual request makes it look twice; a second long look, at
// the picture, would say nothing new. Again when that was quick: the first time pays for things
// that are done once.
absl::Status TimeOtherStages(ModelRunner& runner, const Clock& clock, CostModel* cost) {
  const int side = 64;
  const Image gray{side, side, std::vector<uint8_t>(RgbBytes(side, side), 128)};
  for (const bool is_again : {false, true}) {
    runner.Forget(kWarmUpJob);
    const absl::Time begin = clock.Now();
    RETURN_IF_ERROR(runner.EmbedImage(kWarmUpJob, gray, Preprocessing::kClipProcessor));
    const absl::Time embedded = clock.Now();
    RETURN_IF_ERROR(PrepareSlots(runner, 1, kSmallPicture));
    const absl::Time prepared = clock.Now();
    ASSIGN_OR_RETURN(const auto pictures, runner.DecodeLatents(std::vector<SlotId>{0}));
    const absl::Time decoded = clock.Now();
    if (!pictures[0]) return absl::InternalError("the VAE's output is not finite");
    absl::Duration look = embedded - begin;
    if (!runner.info().has_one_tower || look < kLongCall) {
      const std::vector<ScoreRow> rows = {{kWarmUpJob, &*pictures[0]}};
      RETURN_IF_ERROR(runner.ScoreImages(rows).status());
      look = clock.Now() - decoded;
    }
    if (!is_again && clock.Now() - begin < kLongTurn) continue;
    cost->embedding.Observe(CostModel::kSourceArea,
                            TowerRunsOf(Preprocessing::kModelCard) * (embedded - begin));
    cost->decode.Observe(LatentArea(runner.info()),
                         kSmallPicture * kSmallPicture * (decoded - prepared) + look);
    break;
  }
  return absl::OkStatus();
}

// The shortest of a few calls: the first pays for things that are done once, and the machine may be
// busy.
absl::StatusOr<absl::Duration> ShortestCall(ModelRunner& runner, const Clock& clock, int rows,
                                            int shrink) {
  ASSIGN_OR_RETURN(absl::Duration shortest, TimeCall(runner, clock, rows, shrink));
  for (int repeat = 0; repeat < 3 && shortest < kLongCall; ++repeat) {
    ASSIGN_OR_RETURN(const absl::Duration time, TimeCall(runner, clock, rows, shrink));
    shortest = std::min(shortest, time);
  }
  return shortest;
}

// Whether the default size can be halved, for any UNet with up to four levels.
bool HasHalf(const ModelInfo& info) {
  constexpr int kPositions = 16;
  return info.default_width / info.latent_factor % kPositions == 0 &&
         info.default_height / info.latent_factor % kPositions == 0;
}

// Takes over what the self-test timed, if some of it was long. What is: area and rows.
std::set<std::pair<int64_t, int>> TakeTimedCalls(const ModelInfo& info, CostModel* cost) {
  std::set<std::pair<int64_t, int>> taken;
  const auto is_long = [](const TimedCall& call) { return call.time >= kLongCall; };
  if (std::ranges::none_of(info.timed_calls, is_long)) return taken;
  for (const TimedCall& call : info.timed_calls) {
    cost->unet.Observe(call.size.area(), call.rows, call.time);
    taken.emplace(call.size.area(), call.rows);
  }
  return taken;
}

// Of half the size first where it can be had, one and two rows whatever they take; of the default
// size as far as calls are short and fit into the budget: what is scaled from half of it is as good
// as one long call, which pays for things that are done once.
absl::Status TimeCalls(ModelRunner& runner, const Clock& clock, int max_rows, absl::Duration budget,
                       CostModel* cost) {
  const absl::Time begin = clock.Now();
  const auto taken = TakeTimedCalls(runner.info(), cost);
  for (const int shrink : HasHalf(runner.info()) ? std::vector{2, 1} : std::vector{1}) {
    const int64_t area = LatentArea(runner.info(), shrink);
    const bool is_first = cost->unet.areas().empty();
    for (int rows = 1; rows <= max_rows; rows *= 2) {
      if (taken.contains({area, rows})) continue;
      const absl::Duration expected = cost->unet.Predict(area, rows);
      const bool is_affordable = expected < kLongCall && clock.Now() - begin + expected < budget;
      const bool is_needed = is_first && rows <= kRowsForAShape;
      if (!is_needed && !is_affordable) break;
      ASSIGN_OR_RETURN(const absl::Duration time, ShortestCall(runner, clock, rows, shrink));
      cost->unet.Observe(area, rows, time);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WarmUp(ModelRunner& runner, const Clock& clock, int max_rows, absl::Duration budget,
                    CostModel* cost) {
  absl::Status status = TimeOtherStages(runner, clock, cost);
  if (status.ok()) status = TimeCalls(runner, clock, max_rows, budget, cost);
  cost->unet.KeepShape();
  runner.Forget(kWarmUpJob);
  return status;
}

}  // namespace image_variations
