// What a UNet call costs on this device: t(rows) = base + per_row * rows, fitted from measured
// calls.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
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

  // Of a call that takes `rows` and is padded; zero while nothing was observed.
  absl::Duration Predict(int64_t latent_area, int rows) const;

  int PaddedRows(int rows) const { return image_variations::PaddedRows(row_buckets_, rows); }
  int RowsWithin(int rows) const { return image_variations::RowsWithin(row_buckets_, rows); }

  // The fewest rows whose time per row is within 3 % of the best that 1 to max_rows rows can have:
  // where more rows cost in proportion (a CPU at full size) that is few, where they are nearly free
  // (a GPU) as many as allowed;
  // max_rows while nothing was observed.
  int EfficientRows(int64_t latent_area, int max_rows) const;

  // The areas that were measured.
  std::vector<int64_t> areas() const;

 private:
  struct Fit {  // exponentially forgetting least squares over (rows, seconds)
    double weight = 0, rows = 0, seconds = 0, rows_rows = 0, rows_seconds = 0;
    double base = 0, per_row = 0;  // seconds
    OutlierFilter filter{};
  };

  // The nearest area's cost, scaled to this area; its sums are left out.
  Fit Scaled(int64_t latent_area) const;

  std::vector<int> row_buckets_;
  std::map<int64_t, Fit> fits_;
};

}  // namespace image_variations
