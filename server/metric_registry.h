// Makes metrics, and remembers their names and meanings for the docs.
#pragma once

#include <memory>
#include <string>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace image_variations {

// Thread-compatible; what it makes is thread-safe and lives as long as registry().
class MetricRegistry {
 public:
  template <typename Metric>
  using Family = prometheus::Family<Metric>;

  // By label.
  Family<prometheus::Counter>& Counters(const char* name, const char* help);
  Family<prometheus::Gauge>& Gauges(const char* name, const char* help);
  Family<prometheus::Histogram>& Histograms(const char* name, const char* help);
  // Without labels.
  prometheus::Counter& Counter(const char* name, const char* help);
  prometheus::Gauge& Gauge(const char* name, const char* help);
  prometheus::Histogram& Seconds(const char* name, const char* help);

  // From a step of a small model to a picture on a CPU.
  static const prometheus::Histogram::BucketBoundaries& SecondsBuckets();

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }
  // A table of what was made, in that order.
  std::string Markdown() const;

 private:
  void Describe(const char* name, const char* type, const char* help);

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::string markdown_rows_;
};

}  // namespace image_variations
