#include "server/standing_line.h"

#include <algorithm>
#include <limits>

namespace image_variations {

int64_t LineEntry::unet_rows() const {
  const int begun = samples_open - samples_fresh;
  return int64_t{shape.rows} *
         (int64_t{samples_fresh} * shape.steps + int64_t{begun} * begun_steps);
}

StandingLine::StandingLine(absl::Span<const LineEntry> entries, double slowdown,
                           const Forecast& forecast, absl::Time now)
    : entries_(entries),
      slowdown_(slowdown),
      forecast_(forecast),
      now_(now),
      since_epoch_(absl::ToDoubleSeconds(now - absl::UnixEpoch())) {}

size_t StandingLine::NextInDanger(size_t first, double begin) {
  const double all_begin = begin - sums()[first].work + kTimeRounding;
  if (all_begin < sums()[first].latest_of_all) return entries_.size();
  size_t next = first;
  while (all_begin < sums_[next].latest) ++next;
  return next;
}

void StandingLine::SumUp() {
  constexpr double kAnyTime = std::numeric_limits<double>::infinity();
  const Margin margin = forecast_.margin();
  const double scale = 1 / ((1 + margin.share) * slowdown_);
  const size_t size = entries_.size();
  sums_ = std::make_unique_for_overwrite<Sums[]>(size + 1);
  sums_[0].work = 0;
  const SampleTimes* times = nullptr;
  for (size_t i = 0; i < size; ++i) {
    const LineEntry& entry = entries_[i];
    if (i == 0 || entry.shape.size != entries_[i - 1].shape.size) {
      times = &forecast_.times(entry.shape.size);
    }
    const bool is_open = entry.samples_open > 0;
    const bool needs_embedding = entry.samples_fresh == entry.shape.samples;
    const double work =
        is_open ? times->SecondsOf(entry.unet_rows(), entry.samples_open, needs_embedding) : 0;
    const double within = (TimeLeft(entry) - margin.seconds) * scale;  // margin.Within
    sums_[i + 1].work = sums_[i].work + work;
    sums_[i].latest = is_open ? within - sums_[i + 1].work : (within < 0 ? -kAnyTime : kAnyTime);
  }
  sums_[size].latest = sums_[size].latest_of_all = kAnyTime;
  for (size_t i = size; i-- > 0;) {
    sums_[i].latest_of_all = std::min(sums_[i + 1].latest_of_all, sums_[i].latest);
  }
}

}  // namespace image_variations
