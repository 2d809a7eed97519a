#include "server/metric_registry.h"

#include "absl/strings/str_cat.h"

namespace image_variations {

prometheus::Family<prometheus::Counter>& MetricRegistry::Counters(const char* name,
                                                                  const char* help) {
  Describe(name, "counter", help);
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
}

prometheus::Family<prometheus::Gauge>& MetricRegistry::Gauges(const char* name, const char* help) {
  Describe(name, "gauge", help);
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
}

prometheus::Family<prometheus::Histogram>& MetricRegistry::Histograms(const char* name,
                                                                      const char* help) {
  Describe(name, "histogram", help);
  return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
}

prometheus::Counter& MetricRegistry::Counter(const char* name, const char* help) {
  return Counters(name, help).Add({});
}

prometheus::Gauge& MetricRegistry::Gauge(const char* name, const char* help) {
  return Gauges(name, help).Add({});
}

prometheus::Histogram& MetricRegistry::Seconds(const char* name, const char* help) {
  return Histograms(name, help).Add({}, SecondsBuckets());
}

const prometheus::Histogram::BucketBoundaries& MetricRegistry::SecondsBuckets() {
  static const auto* const bounds = new prometheus::Histogram::BucketBoundaries{
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
      1,     2.5,    5,     10,   30,    60,   120, 300,  600};
  return *bounds;
}

std::string MetricRegistry::Markdown() const {
  return absl::StrCat("| Metric | Type | What |\n|---|---|---|\n", markdown_rows_);
}

void MetricRegistry::Describe(const char* name, const char* type, const char* help) {
  absl::StrAppend(&markdown_rows_, "| `", name, "` | ", type, " | ", help, " |\n");
}

}  // namespace image_variations
