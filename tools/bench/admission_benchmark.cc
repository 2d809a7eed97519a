// What the admission test of a long line costs: bin/admission_benchmark, of an optimised build.
#include <benchmark/benchmark.h>

#include <vector>

#include "server/admission.h"

namespace image_variations {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();

CostModel GpuCost() {
  CostModel cost;
  for (const int rows : {1, 2, 4, 8, 16}) {
    cost.unet.Observe(4096, rows, absl::Milliseconds(30 + 5 * rows));
  }
  cost.decode.Observe(4096, absl::Milliseconds(40));
  return cost;
}

AdmissionRequest RequestOf(int64_t number, int samples) {
  return {.shape = {.samples = samples,
                    .steps = static_cast<int>(20 + number % 31),
                    .rows = number % 3 == 0 ? 1 : 2,
                    .size = {64, 64}},
          .deadline = number % 2 == 0 ? absl::InfiniteFuture() : kNow + absl::Hours(10 + number),
          .caller = "anybody"};
}

// Arguments: samples in line, samples of a request, seconds that the newcomer has.
void BM_Enter(benchmark::State& state) {
  const auto line = state.range(0);
  const int samples = static_cast<int>(state.range(1));
  AdmissionGate gate(
      {.max_requests = 1 << 20, .max_samples = 1 << 20, .max_unet_rows_ahead = int64_t{1} << 40});
  gate.Open();
  const CostModel cost = GpuCost();
  std::vector<AdmissionTicket> tickets;
  for (int64_t number = 0; number < line / samples; ++number) {
    tickets.push_back(gate.Enter(RequestOf(number, samples), {&cost, 1}, kNow).value());
  }
  AdmissionRequest newcomer = RequestOf(1, samples);
  newcomer.deadline = kNow + absl::Seconds(state.range(2));
  newcomer.only_asks = true;
  for (auto _ : state) benchmark::DoNotOptimize(gate.Enter(newcomer, {&cost, 1}, kNow).ok());
}
BENCHMARK(BM_Enter)
    ->ArgNames({"line", "samples", "seconds"})
    ->Args({256, 1, 1'000'000})
    ->Args({10'000, 4, 1'000'000})
    ->Args({10'000, 1, 1'000'000})
    ->Args({256, 1, 3})
    ->Args({10'000, 4, 3})
    ->Args({10'000, 1, 3})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace image_variations

BENCHMARK_MAIN();
