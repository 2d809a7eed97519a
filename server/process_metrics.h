// The process's own metrics, under the names that every exporter uses.
#pragma once

#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace image_variations {

// Read from /proc at each scrape. Thread-safe.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

// Lines of MetricRegistry::Markdown for them.
std::string ProcessMetricsMarkdown();

}  // namespace image_variations
