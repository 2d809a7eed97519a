#include "pipeline/model/row_invariance.h"

#include <algorithm>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randn.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

// From here on one row keeps all cores busy (about a third of a millisecond on a small machine).
constexpr int64_t kMultiplicationsThatFillTheMachine = 50'000'000;

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

std::vector<at::Tensor> RandomLike(at::TensorList inputs) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
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

}  // namespace

at::Tensor RowInvariance::Run(const Operation& operation, at::TensorList inputs, Body body) {
  for (const at::Tensor& input : inputs) {
    IV_CHECK(!input.defined() || input.is_contiguous() ||
             input.is_contiguous(at::MemoryFormat::ChannelsLast));
  }
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1) return body(inputs);
  if (operation.multiplications_per_row < kMultiplicationsThatFillTheMachine &&
      IsInvariant(operation, inputs, body)) {
    return body(inputs);
  }
  return RowByRow(inputs, body);
}

at::Tensor RowInvariance::RunAlone(at::TensorList inputs, Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1) return body(inputs);
  return RowByRow(inputs, body);
}

at::Tensor RowInvariance::RunChain(int64_t multiplications_per_row, at::TensorList inputs,
                                   Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1 ||
      multiplications_per_row < kMultiplicationsThatFillTheMachine) {
    return body(inputs);
  }
  return RowByRow(inputs, body);
}

std::pair<int, int> RowInvariance::tried_and_split() const {
  const auto split = std::count_if(invariant_.begin(), invariant_.end(),
                                   [](const auto& trial) { return !trial.second; });
  return {static_cast<int>(invariant_.size()), static_cast<int>(split)};
}

bool RowInvariance::IsInvariant(const Operation& operation, at::TensorList inputs, Body body) {
  Key key(operation.kind, operation.constants);
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) continue;
    key.second.insert(key.second.end(), input.sizes().begin(), input.sizes().end());
    key.second.push_back(static_cast<int64_t>(input.scalar_type()));
  }
  const auto known = invariant_.find(key);
  if (known != invariant_.end()) return known->second;

  const std::vector<at::Tensor> trial = RandomLike(inputs);
  const bool invariant = at::equal(body(trial), RowByRow(trial, body));
  invariant_.emplace(std::move(key), invariant);
  return invariant;
}

}  // namespace image_variations
