// Prints how the service behaves under overload, as tables: overload_table [SEEDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/server/overload_simulation.h"

namespace image_variations {
namespace {

double Percent(int part, int of) { return of > 0 ? 100.0 * part / of : 100; }

void PrintOnTime(const DeviceProfile& device, double load, double goal, uint64_t seeds) {
  double first = 0, sum = 0, least = 1, admitted_sum = 0, least_admitted = 1, rows = 0;
  int retries = 0, retries_admitted = 0, below = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const OverloadReport report = SimulateOverload({.device = device, .load = load, .seed = seed});
    if (seed == 1) first = report.on_time_share();
    below += report.on_time_share() < goal ? 1 : 0;
    sum += report.on_time_share();
    least = std::min(least, report.on_time_share());
    admitted_sum += report.admitted_on_time_share();
    least_admitted = std::min(least_admitted, report.admitted_on_time_share());
    rows += report.unet_rows_per_call;
    const OverloadReport again =
        SimulateOverload({.device = device, .load = load, .seed = seed, .retries = true});
    retries += again.retries;
    retries_admitted += again.retries_admitted;
  }
  const auto n = static_cast<double>(seeds);
  std::printf("| %s | %.1f | %.0f | %.1f | %.1f | %.1f | %d | %.1f | %.1f | %.1f of %d | %.1f |\n",
              std::string(device.name).c_str(), load, 100 * goal, 100 * first, 100 * sum / n,
              100 * least, below, 100 * admitted_sum / n, 100 * least_admitted,
              Percent(retries_admitted, retries), retries, rows / n);
  std::fflush(stdout);
}

void PrintCancelsAndBatch(const DeviceProfile& device, uint64_t seeds) {
  std::vector<int> wasted;
  int offered = 0, in_bound = 0;
  double longest = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const OverloadReport left =
        SimulateOverload({.device = device, .load = 1.3, .seed = seed, .cancel_share = 0.3});
    wasted.insert(wasted.end(), left.wasted_steps.begin(), left.wasted_steps.end());
    const OverloadReport batch = SimulateOverload({.device = device,
                                                   .load = 0.95,
                                                   .seed = seed,
                                                   .batch_every = absl::Seconds(1000),
                                                   .batch_target = absl::Seconds(1000)});
    offered += batch.batch_offered;
    in_bound += batch.batch_in_bound;
    longest = std::max(longest, batch.longest_batch);
  }
  std::printf("| %s | %d | %d | %d | %d of %d | %.0f |\n", std::string(device.name).c_str(),
              static_cast<int>(wasted.size()), Percentile(wasted, 0.99), Percentile(wasted, 1.0),
              in_bound, offered, longest);
  std::fflush(stdout);
}

void PrintPredictions(const DeviceProfile& device, uint64_t seeds) {
  std::printf("| %s |", std::string(device.name).c_str());
  for (const auto& [load, other] : {std::pair(0.9, 0.0), {1.3, 0.0}, {0.5, 1.3}, {0.3, 2.0}}) {
    std::vector<double> errors;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      const OverloadReport report =
          SimulateOverload({.device = device, .load = load, .other_load = other, .seed = seed});
      errors.insert(errors.end(), report.prediction_errors.begin(), report.prediction_errors.end());
    }
    std::printf(" %.1f |", 100 * Percentile(errors, 0.5));
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) {
  using namespace image_variations;
  const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 21;
  std::printf(
      "Percent, %d seeds.\n\n| Device | Load | Must | Seed 1 | Mean | Least | Seeds below | "
      "Admitted, "
      "mean | Least | Retries admitted | Rows a call "
      "|\n|---|---|---|---|---|---|---|---|---|---|---|\n",
      static_cast<int>(seeds));
  for (const auto& [device, at_09, at_13] :
       {std::tuple(kCpu, 0.81, 0.67), {kA100, 0.86, 0.72}, {kH100, 0.96, 0.93}}) {
    PrintOnTime(device, 0.9, at_09, seeds);
    PrintOnTime(device, 1.3, at_13, seeds);
  }
  std::printf(
      "\n| Device | Left | Calls for them, p99 | Most | Batch in its bound | Longest, s "
      "|\n|---|---|---|---|---|---|\n");
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) PrintCancelsAndBatch(device, seeds);
  std::printf(
      "\n| Device | Error at 0.9 | 1.3 | 0.5 and 1.3 | 0.3 and 2.0 |\n|---|---|---|---|---|\n");
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) PrintPredictions(device, seeds);
}
