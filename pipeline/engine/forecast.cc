#include "pipeline/engine/forecast.h"

#include "pipeline/engine/future.h"

namespace image_variations {

std::vector<ForecastTimes> Forecast::Play(absl::Span<const ForecastSamples> present,
                                          absl::Span<const ForecastSamples> expected) {
  Future future(*this, present, expected);
  future.RunExpected();
  return future.times();
}

const SampleTimes& Forecast::times(LatentSize size) {
  const auto found = times_.find(size.area());
  if (found != times_.end()) return found->second;
  return times_.try_emplace(size.area(), cost_, size.area(), max_rows_).first->second;
}

}  // namespace image_variations
