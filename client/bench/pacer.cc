#include "client/bench/pacer.h"

#include <cmath>

namespace image_variations::client {

Pacer::Pacer(const PacerOptions& options)
    : options_(options), random_(options.seed, Purpose::kArrivals) {
  switch (options_.scenario) {
    case Scenario::kOpenLoop:
      PushArrival();
      break;
    case Scenario::kClosedLoop:
      due_.assign(static_cast<size_t>(options_.concurrency), absl::ZeroDuration());
      break;
    case Scenario::kOffline:
      due_.assign(static_cast<size_t>(options_.max_requests), absl::ZeroDuration());
      break;
  }
}

std::optional<absl::Duration> Pacer::next() const {
  if (stopped_ || due_.empty() || sent_ >= options_.max_requests) return std::nullopt;
  if (due_.front() >= options_.duration && !options_.open_end) return std::nullopt;
  return due_.front();
}

void Pacer::Pop() {
  due_.pop_front();
  ++sent_;
  if (options_.scenario == Scenario::kOpenLoop) PushArrival();
}

void Pacer::OnEnded(absl::Duration at) {
  if (options_.scenario == Scenario::kClosedLoop) due_.push_back(at);
}

void Pacer::Stop() { stopped_ = true; }

void Pacer::PushArrival() {
  // Exponential gaps by inversion; 1 - u is in (0, 1].
  arrival_ += absl::Seconds(-std::log(1 - random_.NextUnit()) / options_.rate);
  due_.push_back(arrival_);
}

}  // namespace image_variations::client
