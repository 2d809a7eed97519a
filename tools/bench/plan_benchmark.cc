// What a plan and a forecast of a long line cost: bin/plan_benchmark, of an optimised build.
#include <benchmark/benchmark.h>

#include "pipeline/base/status_macros.h"
#include "pipeline/engine/forecast.h"
#include "pipeline/engine/step_batcher.h"

namespace image_variations {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();

CostModel GpuCost() {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8, 16}) {
    cost.unet.Observe(4096, rows, absl::Milliseconds(30 + 5 * rows));
    cost.unet.Observe(1024, rows, absl::Milliseconds(20 + 2 * rows));
  }
  cost.decode.Observe(4096, absl::Milliseconds(40));
  return cost;
}

Job JobOf(int64_t number) {
  auto plan = std::make_shared<SamplerPlan>();
  plan->steps.resize(static_cast<size_t>(20 + number % 31));
  const int side = number % 5 == 0 ? 32 : 64;
  return {.id = JobId{static_cast<uint64_t>(number + 1)},
          .plan = plan,
          .guidance_scale = number % 3 == 0 ? 1.0f : 3.0f,
          .latent_width = side,
          .latent_height = side,
          .deadline = number % 2 == 0 ? absl::InfiniteFuture() : kNow + absl::Minutes(number + 1),
          .caller = number % 7 == 0 ? "many" : "few"};
}

// Arguments: samples in line, slots.
void BM_Plan(benchmark::State& state) {
  StepBatcher batcher({.max_slots = static_cast<int>(state.range(1)),
                       .max_waiting_samples = static_cast<int>(state.range(0))});
  const CostModel cost = GpuCost();
  for (int64_t number = 0; number < state.range(0); ++number) {
    IV_CHECK(batcher.Enqueue(JobOf(number), kNow, cost).ok());
  }
  int64_t next = state.range(0);
  absl::Time now = kNow;
  for (auto _ : state) {
    const Tick tick = batcher.Plan(now, cost);
    benchmark::DoNotOptimize(tick.unet_rows);
    state.PauseTiming();
    batcher.Commit(tick, {});
    now += absl::Milliseconds(1);
    while (batcher.waiting_samples() < state.range(0)) {
      IV_CHECK(batcher.Enqueue(JobOf(next++), now, cost).ok());
    }
    state.ResumeTiming();
  }
}
BENCHMARK(BM_Plan)
    ->Args({100, 256})
    ->Args({10'000, 256})
    ->Args({10'000, 16})
    ->Unit(benchmark::kMicrosecond);

void BM_PredictRemaining(benchmark::State& state) {
  StepBatcher batcher({.max_waiting_samples = static_cast<int>(state.range(0))});
  const CostModel cost = GpuCost();
  for (int64_t number = 0; number < state.range(0); ++number) {
    IV_CHECK(batcher.Enqueue(JobOf(number), kNow, cost).ok());
  }
  for (auto _ : state) benchmark::DoNotOptimize(batcher.PredictRemaining(kNow, cost));
}
BENCHMARK(BM_PredictRemaining)->Arg(100)->Arg(10'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace image_variations

BENCHMARK_MAIN();
