// The row counts that UNet calls have where a GPU's kernels need few fixed ones.
#pragma once

#include <algorithm>
#include <vector>

#include "absl/types/span.h"

namespace image_variations {

// 1, 2, 3, 4, 6, 8, 12, 16, ...: powers of two and the middles between them up to max_rows, and
// max_rows itself. Few, so that each is set up once, and at most a third of a call is padding.
inline std::vector<int> RowBuckets(int max_rows) {
  std::vector<int> buckets;
  for (int power = 1; power < max_rows; power *= 2) {
    buckets.push_back(power);
    if (power > 1 && power + power / 2 < max_rows) buckets.push_back(power + power / 2);
  }
  buckets.push_back(max_rows);
  return buckets;
}

// The rows of a call that takes `rows`: the next bucket, or as many if there is none.
inline int PaddedRows(absl::Span<const int> buckets, int rows) {
  const auto bucket = std::lower_bound(buckets.begin(), buckets.end(), rows);
  return rows > 0 && bucket != buckets.end() ? *bucket : rows;
}

// The most rows, up to `rows`, that can be taken without a call of more than that.
inline int RowsWithin(absl::Span<const int> buckets, int rows) {
  const auto above = std::upper_bound(buckets.begin(), buckets.end(), rows);
  return above == buckets.begin() || above == buckets.end() ? rows : *(above - 1);
}

}  // namespace image_variations
