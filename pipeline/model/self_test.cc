#include "pipeline/model/self_test.h"

#include <algorithm>

#include "pipeline/base/clock.h"
#include "pipeline/engine/row_buckets.h"
#include "pipeline/model/device.h"
#include "pipeline/model/torch_guard.h"

namespace image_variations {
namespace {

// A job id that no client gets.
constexpr JobId kTrialJob{~uint64_t{0}};

// Stands still while operations are tried in company, which is done once.
class ClockWithoutTrials final : public Clock {
 public:
  explicit ClockWithoutTrials(const RowInvariance& rows) : rows_(rows) {}
  absl::Time Now() const override { return RealClock().Now() - rows_.trial_time(); }

 private:
  const RowInvariance& rows_;
};

// Of the widest convolution for one sample: its multiplications, and bytes of what is multiplied,
// as numbers of half the size take half the time. The network takes about a hundred times as many.
int64_t WidestProduct(const NetworkRunner& runner, int side) {
  const at::Tensor& widest = runner.networks().unet.mid_block.resnets[0].block.conv1.weight;
  return int64_t{side} * side * widest.numel() * static_cast<int64_t>(widest.element_size());
}

// A full-size network on a CPU takes seconds for a row of the model's own size. There nearly every
// operation of it runs row by row, by construction; more of a smaller size's are tried together, so
// that it is the harder test. What calls cost is scaled from it: of the largest size within this a
// full-size network's first picture is foretold to a tenth.
constexpr int64_t kQuickProduct = 40'000'000'000;

// So many are quickly done.
constexpr int64_t kQuickProducts = 60'000'000'000;

int TrialSide(const NetworkRunner& runner) {
  const auto levels = runner.networks().unet.down_blocks.size();
  const int stride = 1 << (levels - 1);  // of the deepest level's positions; it has more than one
  int side = runner.info().default_width / runner.info().latent_factor;
  if (!runner.networks().placement.device.is_cpu()) return side;
  while (side > 2 * stride && WidestProduct(runner, side) > kQuickProduct) {
    side = (side - 1) / stride * stride;
  }
  return side;
}

SelfTestOptions TrialOf(const NetworkRunner& runner, int max_slots, int max_rows) {
  const int side = TrialSide(runner);
  SelfTestOptions options{
      .size = {side, side}, .call_rows = runner.info().row_buckets, .max_slots = max_slots};
  if (!options.call_rows.empty()) return options;
  const int64_t affordable = kQuickProducts / WidestProduct(runner, side);
  if (affordable < max_rows) {
    // One alone and, in another row, beside another: shapes of more rows, or a guided sample's,
    // would be tried first, which costs more than they do.
    options.call_rows = {2};
    options.is_quick = true;
  } else {
    options.call_rows = RowBuckets(max_rows);
  }
  return options;
}

}  // namespace

absl::StatusOr<SelfTestResult> RunSelfTest(NetworkRunner& runner, int max_slots, int max_rows) {
  const auto latents_of = [&](SlotId slot) {
    const at::Tensor latents = ToHost(runner.latents(slot).contiguous());
    return std::string(static_cast<const char*>(latents.const_data_ptr()), latents.nbytes());
  };
  return GuardTorch("the self-test", [&] {
    runner.ConditionAtRandom(kTrialJob);
    absl::StatusOr<SelfTestResult> result =
        TestReproducibility(runner, kTrialJob, latents_of, ClockWithoutTrials(runner.rows()),
                            TrialOf(runner, max_slots, max_rows));
    runner.Forget(kTrialJob);
    return result;
  });
}

}  // namespace image_variations
