// What a UNet call costs on this device: t(rows) = base + per_row * rows, fitted from measured
// calls.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/outlier_filter.h"
#include "pipeline/engine/row_buckets.h"

namespace image_variations {

// One fit per latent area; an area that was never measured is scaled from the nearest one.
// Thread-compatible.
class StepCostModel {
 public:
  StepCostModel() = default;
  explicit StepCostModel(std::vector<int> row_buckets)  // as in ModelInfo
      : row_buckets_(std::move(row_buckets)) {}

  // Takes in one measured call that took `rows`, its padding not counted. A hiccup does not count;
  // a device that has become slower does.
  void Observe(int64_t latent_area, int rows, absl::Duration);
  // From now on, whatever is observed, the shape leans on what was measured until now, at the scale
  // of what is observed: calls of few rows do not tell what many take, and calls that are believed
  // to gain nothing by more rows stay few.
  void KeepShape();

  // Of a call that takes `rows` and is padded; zero while nothing was observed.
  absl::Duration Predict(int64_t latent_area, int rows) const;
  // The seconds of all calls of 0 to max_rows rows, by rows: the same, read once.
  std::vector<double> SecondsUpTo(int64_t latent_area, int max_rows) const;

  int PaddedRows(int rows) const { return image_variations::PaddedRows(row_buckets_, rows); }
  int RowsWithin(int rows) const { return image_variations::RowsWithin(row_buckets_, rows); }

  // The fewest rows whose time per row is within 3 % of the best that 1 to max_rows rows can have:
  // where more rows cost in proportion (a CPU at full size) that is few, where they are nearly free
  // (a GPU) as many as allowed;
  // max_rows while nothing was observed.
  int EfficientRows(int64_t latent_area, int max_rows) const {
    return EfficientRows(SecondsUpTo(latent_area, max_rows));
  }
  int EfficientRows(absl::Span<const double> seconds_up_to_max_rows) const;

  // The areas that were measured.
  std::vector<int64_t> areas() const;

 private:
  struct Line {  // seconds
    double base = 0, per_row = 0;
    double At(double rows) const { return base + per_row * rows; }
  };
  struct Sums {  // over measured calls, for exponentially forgetting least squares
    double weight = 0, rows = 0, seconds = 0, rows_rows = 0, rows_seconds = 0;
    void Forget(double share_kept);
    void Add(double rows, double seconds);
    double mean_rows() const { return rows / weight; }
    double mean_seconds() const { return seconds / weight; }
    double spread() const { return rows_rows - rows * mean_rows(); }
    double co_spread() const { return rows_seconds - rows * mean_seconds(); }
  };
  struct Track {
    Line line;
    Sums latest{};
    Line kept{};             // what the shape leans on ...
    double kept_spread = 0;  // ... as much as on calls of this spread
    OutlierFilter filter{};
  };

  static Line LineThrough(const Track&);
  const std::pair<const int64_t, Track>& Nearest(int64_t latent_area) const;
  // The nearest area's, scaled to this area.
  Line LineOf(int64_t latent_area) const;
  // The nearest area's cost, scaled to this area; its latest calls are left out.
  Track Scaled(int64_t latent_area) const;

  std::vector<int> row_buckets_;
  std::map<int64_t, Track> tracks_;
};

}  // namespace image_variations
