#include "pipeline/engine/row_buckets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace image_variations {
namespace {

using ::testing::ElementsAre;

TEST(RowBuckets, AreFewAndEndWithTheMost) {
  EXPECT_THAT(RowBuckets(1), ElementsAre(1));
  EXPECT_THAT(RowBuckets(2), ElementsAre(1, 2));
  EXPECT_THAT(RowBuckets(10), ElementsAre(1, 2, 3, 4, 6, 8, 10));
  EXPECT_THAT(RowBuckets(16), ElementsAre(1, 2, 3, 4, 6, 8, 12, 16));
}

TEST(RowBuckets, AtMostAThirdOfACallIsPadding) {
  for (const int max_rows : {1, 2, 5, 16, 23, 64}) {
    const std::vector<int> buckets = RowBuckets(max_rows);
    for (int rows = 1; rows <= max_rows; ++rows) {
      const int padded = PaddedRows(buckets, rows);
      EXPECT_GE(padded, rows);
      EXPECT_LE(3 * (padded - rows), padded) << rows << " of " << max_rows;
      EXPECT_LE(PaddedRows(buckets, RowsWithin(buckets, rows)), rows);
    }
  }
}

TEST(RowBuckets, WithoutBucketsACallHasAnyRowCount) {
  EXPECT_EQ(PaddedRows({}, 5), 5);
  EXPECT_EQ(RowsWithin({}, 5), 5);
}

}  // namespace
}  // namespace image_variations
