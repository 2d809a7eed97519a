// Keeps the promise that a sample's bytes do not depend on what shares its batch.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace image_variations {

// Runs operations over batches (dim 0 = rows) such that every row has exactly the bits that it has
// in a call of its own, which is the definition of the right result.
//
// Kernels choose their blocking by shape, batch included, so some give other bits to a row in
// company. Which do is not documented and changes with shape, thread count and release: it is
// measured. The first time that a batched operation is met in some shape it is tried on random
// rows; if any row differs from the same row alone, halves of that batch are tried, and so on, down
// to one row, and that shape is computed so from then on.
// Where results are rounded to bfloat16 another order of additions changes but one value in ten
// thousand: there many values are tried, or of products what rounding takes away.
// An operation that fills the machine with one row is not batched: nothing would be gained, unless
// it waits for its weights, which a batch reads once. Where a product waits for them and rows in
// company are not as alone, calls have a fixed number of rows, filled up with zeros, so that
// one kernel computes them all: if a trial shows that a row is the same in every place of it, such
// a call stands for the row's own.
//
// On a GPU batches stay whole: there the start-up self-test of the runner says what holds.
// Engine thread only.
class RowInvariance {
 public:
  enum class Policy { kWholeBatches, kRowsAsAlone };

  // What there is to do for a row: each of its positions is multiplied by all weights.
  struct Work {
    int64_t positions = 0;
    int64_t weights = 0;
  };
  // One operation in one shape. `constants` are what else selects the kernel: weight sizes, stride.
  struct Operation {
    absl::string_view kind;  // a literal
    std::vector<int64_t> constants = {};
    Work row = {};
  };
  using Body = absl::FunctionRef<at::Tensor(at::TensorList inputs)>;

  explicit RowInvariance(Policy policy) : policy_(policy) {}

  // `inputs` are dense, in order or channels last, and share their number of rows; the first is
  // defined. `body` must compute row i of its result from row i of each.
  at::Tensor Run(const Operation&, at::TensorList inputs, Body body);
  // The same for a product of the first input. `sum`: that product plus its second input, if that
  // is defined, without what else `body` does to it, and rounded after the addition.
  at::Tensor RunProduct(const Operation&, at::TensorList inputs, Body body, Body sum);
  // The same for operations whose differences a trial on random rows could miss, such as vectorised
  // exponentials, whose last elements of a chunk take another code path: always row by row.
  at::Tensor RunAlone(at::TensorList inputs, Body body);

  // A chain of operations that run here too: row by row if one row fills the machine, so that rows
  // are put together once for all of them.
  at::Tensor RunChain(const Work& row, at::TensorList inputs, Body body);

  // What trials took until now: each shape pays for its own once.
  absl::Duration trial_time() const { return trial_time_; }
  // Shapes tried, and those of them that have to be computed in smaller ones.
  std::pair<int, int> tried_and_split() const;

 private:
  using Key = std::pair<absl::string_view, std::vector<int64_t>>;

  // `sum` may be null.
  at::Tensor RunOrSplit(const Operation&, at::TensorList inputs, Body body, const Body* sum);
  static Key KeyOf(const Operation&, at::TensorList inputs, int64_t rows);
  // The fixed number of rows; 1: each row has a call of its own.
  int64_t RowsOfACall(const Operation&, at::TensorList inputs, Body body, Body sum);
  // How many to compute in one call: all rows or, halved again and again, as many as are then as in
  // calls of `call_rows`.
  int64_t RowsInCompany(const Operation&, at::TensorList inputs, int64_t call_rows, Body body,
                        const Body* sum);
  // Whether so many `rows` in one call are as in calls of `call_rows`.
  bool IsInvariant(const Operation&, at::TensorList inputs, int64_t rows, int64_t call_rows,
                   Body body, const Body* sum);

  const Policy policy_;
  std::map<Key, int64_t> call_rows_;
  std::map<Key, bool> invariant_;
  absl::Duration trial_time_;
};

}  // namespace image_variations
