// Prints how the service behaves under overload: overload_table [SEEDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/server/overload_simulation.h"

namespace image_variations {
namespace {

void PrintRow(const DeviceProfile& device, double load, uint64_t seeds) {
  double first = 0, sum = 0, least = 1, admitted_sum = 0, least_admitted = 1, rows = 0;
  int retries = 0, retries_admitted = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const OverloadReport report = SimulateOverload({.device = device, .load = load, .seed = seed});
    if (seed == 1) first = report.on_time_share();
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
  std::printf("| %-4s | %.1f | %5.1f | %5.1f | %5.1f | %5.1f | %5.1f | %4.1f | %5.1f of %d |\n",
              std::string(device.name).c_str(), load, 100 * first, 100 * sum / n, 100 * least,
              100 * admitted_sum / n, 100 * least_admitted, rows / n,
              retries > 0 ? 100.0 * retries_admitted / retries : 100, retries);
  std::fflush(stdout);
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) {
  using namespace image_variations;
  const uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 21;
  std::printf(
      "%% of all offered done on time (seed 1, mean, least of %d seeds), %% of the admitted "
      "done on time (mean, least), rows per call, %% of retries admitted\n"
      "| device | load | seed 1 | mean | least | admitted | least | rows | retries |\n",
      static_cast<int>(seeds));
  for (const DeviceProfile& device : {kCpu, kA100, kH100}) {
    for (const double load : {0.9, 1.3}) PrintRow(device, load, seeds);
  }
}
