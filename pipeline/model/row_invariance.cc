#include "pipeline/model/row_invariance.h"

#include <algorithm>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/neg.h"
#include "ATen/ops/randn.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/tile_product.h"

namespace image_variations {
namespace {

// From here on one row keeps all cores busy (about a third of a millisecond on a small machine).
constexpr int64_t kMultiplicationsThatFillTheMachine = 50'000'000;

// Weights come in slower than they are multiplied, up to this many positions; with tile registers,
// up to the second number.
constexpr int64_t kPositionsThatWait = 64;
constexpr int64_t kPositionsThatWaitOnTiles = 256;

// Another order of additions changes about one in ten thousand after rounding to bfloat16, and
// every second one in float32.
constexpr int64_t kRoundedResults = 1 << 18;

// Kernels may treat the first elements of an unaligned row differently; a row alone is aligned.
constexpr uintptr_t kAllocationAlignment = 64;

std::vector<at::Tensor> Row(at::TensorList inputs, int64_t row) {
  std::vector<at::Tensor> rows;
  rows.reserve(inputs.size());
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) {
      rows.emplace_back();
      continue;
    }
    at::Tensor alone = input.narrow(0, row, 1);
    const bool aligned =
        reinterpret_cast<uintptr_t>(alone.const_data_ptr()) % kAllocationAlignment == 0;
    rows.push_back(aligned ? alone : alone.clone());
  }
  return rows;
}

at::Tensor RowByRow(at::TensorList inputs, RowInvariance::Body body) {
  at::Tensor results;
  const int64_t rows = inputs[0].size(0);
  for (int64_t row = 0; row < rows; ++row) {
    const at::Tensor result = body(Row(inputs, row));
    if (!results.defined()) {
      std::vector<int64_t> sizes = result.sizes().vec();
      sizes[0] = rows;
      results = at::empty(sizes, result.options(), result.suggest_memory_format());
    }
    results.narrow(0, row, 1).copy_(result);
  }
  return results;
}

std::vector<at::Tensor> RandomLike(at::TensorList inputs, const at::Generator& generator) {
  std::vector<at::Tensor> random;
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) {
      random.emplace_back();
      continue;
    }
    random.push_back(at::randn(input.sizes(), generator, input.options().dtype(at::kFloat))
                         .to(input.scalar_type())
                         .contiguous(input.suggest_memory_format()));
  }
  return random;
}

bool FillsTheMachine(const RowInvariance::Work& row, const at::Tensor& input) {
  if (row.positions * row.weights < kMultiplicationsThatFillTheMachine) return false;
  const bool on_tiles = input.scalar_type() == at::kBFloat16 && HasTileProduct();
  return row.positions > (on_tiles ? kPositionsThatWaitOnTiles : kPositionsThatWait);
}

// Tries at least as many results.
bool AreRowsAsAlone(at::TensorList inputs, int64_t results, RowInvariance::Body body) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  for (int64_t tried = 0; tried < results;) {
    const std::vector<at::Tensor> trial = RandomLike(inputs, generator);
    const at::Tensor result = body(trial);
    if (!at::equal(result, RowByRow(trial, body))) return false;
    tried += result.numel();
  }
  return true;
}

// The product minus itself after rounding: the bits that were lost, of which every hundredth value
// shows another order of additions.
bool AreRemaindersAsAlone(at::TensorList inputs, RowInvariance::Body sum) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  const at::Tensor x = RandomLike({inputs[0]}, generator)[0];
  const at::Tensor product = sum({x, at::Tensor()});
  const at::Tensor negative = at::neg(product);
  return at::equal(sum({x, negative}), RowByRow({x, negative}, sum));
}

}  // namespace

at::Tensor RowInvariance::Run(const Operation& operation, at::TensorList inputs, Body body) {
  return RunOrSplit(operation, inputs, body, nullptr);
}

at::Tensor RowInvariance::RunProduct(const Operation& operation, at::TensorList inputs, Body body,
                                     Body sum) {
  return RunOrSplit(operation, inputs, body, &sum);
}

at::Tensor RowInvariance::RunOrSplit(const Operation& operation, at::TensorList inputs, Body body,
                                     const Body* sum) {
  for (const at::Tensor& input : inputs) {
    IV_CHECK(!input.defined() || input.is_contiguous() ||
             input.is_contiguous(at::MemoryFormat::ChannelsLast));
  }
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1) return body(inputs);
  if (!FillsTheMachine(operation.row, inputs[0]) && IsInvariant(operation, inputs, body, sum)) {
    return body(inputs);
  }
  return RowByRow(inputs, body);
}

at::Tensor RowInvariance::RunAlone(at::TensorList inputs, Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1) return body(inputs);
  return RowByRow(inputs, body);
}

at::Tensor RowInvariance::RunChain(const Work& row, at::TensorList inputs, Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1 ||
      !FillsTheMachine(row, inputs[0])) {
    return body(inputs);
  }
  return RowByRow(inputs, body);
}

std::pair<int, int> RowInvariance::tried_and_split() const {
  const auto split = std::count_if(invariant_.begin(), invariant_.end(),
                                   [](const auto& trial) { return !trial.second; });
  return {static_cast<int>(invariant_.size()), static_cast<int>(split)};
}

bool RowInvariance::IsInvariant(const Operation& operation, at::TensorList inputs, Body body,
                                const Body* sum) {
  Key key(operation.kind, operation.constants);
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) continue;
    key.second.insert(key.second.end(), input.sizes().begin(), input.sizes().end());
    key.second.push_back(static_cast<int64_t>(input.scalar_type()));
  }
  const auto known = invariant_.find(key);
  if (known != invariant_.end()) return known->second;

  const bool is_rounded = inputs[0].scalar_type() != at::kFloat;
  const bool has_remainders = is_rounded && sum != nullptr;
  const bool invariant =
      AreRowsAsAlone(inputs, is_rounded && !has_remainders ? kRoundedResults : 1, body) &&
      (!has_remainders || AreRemaindersAsAlone(inputs, *sum));
  invariant_.emplace(std::move(key), invariant);
  return invariant;
}

}  // namespace image_variations
