// Where Prometheus reads the metrics.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "prometheus/exposer.h"
#include "prometheus/registry.h"
#include "server/process_metrics.h"

namespace image_variations {

// Serves until it is destroyed. Movable.
class MetricsPort {
 public:
  // Fails as ListenSocket::Open does.
  static absl::StatusOr<MetricsPort> Open(const std::string& address,
                                          const std::shared_ptr<prometheus::Registry>&);
  MetricsPort(MetricsPort&&) = default;
  MetricsPort& operator=(MetricsPort&&) = default;
  ~MetricsPort();

  const std::string& address() const { return address_; }  // with the port that was taken

 private:
  MetricsPort() = default;

  std::shared_ptr<ProcessMetrics> process_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_, numeric_;
};

}  // namespace image_variations
