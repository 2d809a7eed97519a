#include "server/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace image_variations {
namespace {

struct Definition {
  const char* name;
  prometheus::MetricType type;
  const char* help;
  double (*read)();
};

// Fields of /proc/self/stat behind the program's name: state is the first.
double StatField(int number) {
  std::ifstream file("/proc/self/stat");
  file.ignore(std::numeric_limits<std::streamsize>::max(), ')');
  std::string skipped;
  for (int i = 1; i < number; ++i) file >> skipped;
  double value = 0;
  file >> value;
  return value;
}

double ClockTicks() { return static_cast<double>(sysconf(_SC_CLK_TCK)); }

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double ResidentBytes() { return StatField(22) * static_cast<double>(sysconf(_SC_PAGESIZE)); }

double StartTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double boot_time = 0;
  while (file >> word && word != "btime") {
  }
  file >> boot_time;
  return boot_time + StatField(20) / ClockTicks();
}

double MaxFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

double OpenFiles() {
  std::error_code error;  // none left for the iterator itself
  const auto open = std::distance(std::filesystem::directory_iterator("/proc/self/fd", error), {});
  return error ? MaxFiles() : static_cast<double>(open - 1);
}

constexpr auto kCounter = prometheus::MetricType::Counter;
constexpr auto kGauge = prometheus::MetricType::Gauge;
constexpr Definition kDefinitions[] = {
    {"process_cpu_seconds_total", kCounter, "Processor time of all threads.", CpuSeconds},
    {"process_resident_memory_bytes", kGauge, "Memory that is mapped and there.", ResidentBytes},
    {"process_open_fds", kGauge, "File descriptors in use.", OpenFiles},
    {"process_max_fds", kGauge, "File descriptors that may be in use.", MaxFiles},
    {"process_start_time_seconds", kGauge, "When the process began, since 1970.", StartTime},
    {"process_threads", kGauge, "Threads.", [] { return StatField(18); }},
};

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  for (const Definition& definition : kDefinitions) {
    prometheus::ClientMetric metric;
    (definition.type == kCounter ? metric.counter.value : metric.gauge.value) = definition.read();
    families.push_back({definition.name, definition.help, definition.type, {metric}});
  }
  return families;
}

std::string ProcessMetricsMarkdown() {
  std::string rows;
  for (const Definition& definition : kDefinitions) {
    absl::StrAppend(&rows, "| `", definition.name, "` | ",
                    definition.type == kCounter ? "counter" : "gauge", " | ", definition.help,
                    " |\n");
  }
  return rows;
}

}  // namespace image_variations
