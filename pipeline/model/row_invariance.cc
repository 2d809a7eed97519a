#include "pipeline/model/row_invariance.h"

#include <algorithm>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/neg.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "pipeline/base/clock.h"
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

// Rows are put together for products of weights that no core's cache holds: as many as cost hardly
// more than one.
constexpr int64_t kWeightsThatAreWaitedFor = 1 << 20;
constexpr int64_t kPositionsTogether = 64;
constexpr int64_t kPositionsTogetherOnTiles = 128;
constexpr int64_t kMostRowsTogether = 4;

// Another order of additions changes about one in ten thousand after rounding to bfloat16, and
// every second one in float32.
constexpr int64_t kRoundedResults = 1 << 18;

// Kernels may treat the first elements of an unaligned row differently; a row alone is aligned.
constexpr uintptr_t kAllocationAlignment = 64;

// `count` rows from `first` on, and zeros up to `call_rows`.
at::Tensor CallOf(const at::Tensor& input, int64_t first, int64_t count, int64_t call_rows) {
  if (!input.defined()) return {};
  const at::Tensor rows = input.narrow(0, first, count);
  if (count < call_rows) {
    std::vector<int64_t> sizes = input.sizes().vec();
    sizes[0] = call_rows;
    const at::Tensor padded =
        at::zeros(sizes, input.options().memory_format(input.suggest_memory_format()));
    padded.narrow(0, 0, count).copy_(rows);
    return padded;
  }
  const bool is_aligned =
      reinterpret_cast<uintptr_t>(rows.const_data_ptr()) % kAllocationAlignment == 0;
  return is_aligned ? rows : rows.clone();
}

// In calls of `call_rows`, the last of them filled with zeros.
at::Tensor InCallsOf(int64_t call_rows, at::TensorList inputs, RowInvariance::Body body) {
  at::Tensor results;
  const int64_t rows = inputs[0].size(0);
  for (int64_t first = 0; first < rows; first += call_rows) {
    const int64_t count = std::min(call_rows, rows - first);
    std::vector<at::Tensor> call;
    for (const at::Tensor& input : inputs) call.push_back(CallOf(input, first, count, call_rows));
    const at::Tensor result = body(call).narrow(0, 0, count);
    if (count == rows) return result;
    if (!results.defined()) {
      std::vector<int64_t> sizes = result.sizes().vec();
      sizes[0] = rows;
      results = at::empty(sizes, result.options(), result.suggest_memory_format());
    }
    results.narrow(0, first, count).copy_(result);
  }
  return results;
}

at::Tensor RowByRow(at::TensorList inputs, RowInvariance::Body body) {
  return InCallsOf(1, inputs, body);
}

std::vector<at::Tensor> RandomLike(at::TensorList inputs, int64_t rows,
                                   const at::Generator& generator) {
  std::vector<at::Tensor> random;
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) {
      random.emplace_back();
      continue;
    }
    std::vector<int64_t> sizes = input.sizes().vec();
    sizes[0] = rows;
    random.push_back(at::randn(sizes, generator, input.options().dtype(at::kFloat))
                         .to(input.scalar_type())
                         .contiguous(input.suggest_memory_format()));
  }
  return random;
}

bool RunsOnTiles(const at::Tensor& input) {
  return input.scalar_type() == at::kBFloat16 && HasTileProduct();
}

bool IsEnoughForAllCores(const RowInvariance::Work& row) {
  return row.positions * row.weights >= kMultiplicationsThatFillTheMachine;
}

bool FillsTheMachine(const RowInvariance::Work& row, const at::Tensor& input) {
  if (!IsEnoughForAllCores(row)) return false;
  return row.positions > (RunsOnTiles(input) ? kPositionsThatWaitOnTiles : kPositionsThatWait);
}

// Where a cache holds the weights, rows one by one keep what the operations hand on in it, too.
bool ChainFillsTheMachine(const RowInvariance::Work& row, const at::Tensor& input) {
  if (row.weights < kWeightsThatAreWaitedFor) return IsEnoughForAllCores(row);
  return FillsTheMachine(row, input);
}

// How many rows cost hardly more than one.
int64_t RowsTogether(const RowInvariance::Work& row, const at::Tensor& input) {
  if (row.weights < kWeightsThatAreWaitedFor) return 1;
  const int64_t positions = RunsOnTiles(input) ? kPositionsTogetherOnTiles : kPositionsTogether;
  return std::clamp<int64_t>(positions / row.positions, 1, kMostRowsTogether);
}

// Tries at least as many results.
bool AreRowsAsInCallsOf(int64_t call_rows, at::TensorList inputs, int64_t rows, int64_t results,
                        RowInvariance::Body body) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  for (int64_t tried = 0; tried < results;) {
    const std::vector<at::Tensor> trial = RandomLike(inputs, rows, generator);
    const at::Tensor result = body(trial);
    if (!at::equal(result, InCallsOf(call_rows, trial, body))) return false;
    tried += result.numel();
  }
  return true;
}

// A product and minus itself after rounding: their sum is the bits that were lost, of which every
// hundredth value shows another order of additions.
std::vector<at::Tensor> ProductAndNegative(const at::Tensor& x, int64_t rows,
                                           RowInvariance::Body sum) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  const at::Tensor random = RandomLike({x}, rows, generator)[0];
  return {random, at::neg(sum({random, at::Tensor()}))};
}

bool AreRemaindersAsInCallsOf(int64_t call_rows, const at::Tensor& x, int64_t rows,
                              RowInvariance::Body sum) {
  const std::vector<at::Tensor> trial = ProductAndNegative(x, rows, sum);
  return at::equal(sum(trial), InCallsOf(call_rows, trial, sum));
}

// Whether each row has the same bits where it stands as in the first place beside zeros.
bool AreEqualInEveryPlace(at::TensorList call, RowInvariance::Body body) {
  const at::Tensor result = body(call);
  const int64_t call_rows = call[0].size(0);
  for (int64_t row = 0; row < call_rows; ++row) {
    std::vector<at::Tensor> alone;
    for (const at::Tensor& input : call) alone.push_back(CallOf(input, row, 1, 1));
    if (!at::equal(InCallsOf(call_rows, alone, body), result.narrow(0, row, 1))) return false;
  }
  return true;
}

// Adds the time that it lives.
class Stopwatch {
 public:
  explicit Stopwatch(absl::Duration* sum) : sum_(sum) {}
  ~Stopwatch() { *sum_ += RealClock().Now() - begin_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  absl::Duration* const sum_;
  const absl::Time begin_ = RealClock().Now();
};

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
  if (policy_ == Policy::kWholeBatches) return body(inputs);
  const int64_t call_rows = sum == nullptr ? 1 : RowsOfACall(operation, inputs, body, *sum);
  if (FillsTheMachine(operation.row, inputs[0])) return InCallsOf(call_rows, inputs, body);
  return InCallsOf(RowsInCompany(operation, inputs, call_rows, body, sum), inputs, body);
}

at::Tensor RowInvariance::RunAlone(at::TensorList inputs, Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1) return body(inputs);
  return RowByRow(inputs, body);
}

at::Tensor RowInvariance::RunChain(const Work& row, at::TensorList inputs, Body body) {
  if (policy_ == Policy::kWholeBatches || inputs[0].size(0) == 1 ||
      !ChainFillsTheMachine(row, inputs[0])) {
    return body(inputs);
  }
  return RowByRow(inputs, body);
}

std::pair<int, int> RowInvariance::tried_and_split() const {
  const auto split = std::count_if(invariant_.begin(), invariant_.end(),
                                   [](const auto& trial) { return !trial.second; });
  return {static_cast<int>(invariant_.size()), static_cast<int>(split)};
}

RowInvariance::Key RowInvariance::KeyOf(const Operation& operation, at::TensorList inputs,
                                        int64_t rows) {
  Key key(operation.kind, operation.constants);
  key.second.push_back(rows);
  for (const at::Tensor& input : inputs) {
    if (!input.defined()) continue;
    key.second.insert(key.second.end(), input.sizes().begin() + 1, input.sizes().end());
    key.second.push_back(static_cast<int64_t>(input.scalar_type()));
  }
  return key;
}

int64_t RowInvariance::RowsOfACall(const Operation& operation, at::TensorList inputs, Body body,
                                   Body sum) {
  const int64_t together = RowsTogether(operation.row, inputs[0]);
  if (together == 1) return 1;
  Key key = KeyOf(operation, {inputs[0]}, 1);
  const auto known = call_rows_.find(key);
  if (known != call_rows_.end()) return known->second;
  const Stopwatch stopwatch(&trial_time_);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  const std::vector<at::Tensor> random = RandomLike(inputs, together, generator);
  // What is not rounded shows all of that by itself.
  const bool is_rounded = inputs[0].scalar_type() != at::kFloat;
  const bool is_better_alone = is_rounded
                                   ? AreRemaindersAsInCallsOf(1, random[0], together, sum)
                                   : AreRowsAsInCallsOf(1, inputs, together, /*results=*/1, body);
  const bool is_sound =
      !is_better_alone && AreEqualInEveryPlace(random, body) &&
      (!is_rounded || AreEqualInEveryPlace(ProductAndNegative(random[0], together, sum), sum));
  return call_rows_[std::move(key)] = is_sound ? together : 1;
}

int64_t RowInvariance::RowsInCompany(const Operation& operation, at::TensorList inputs,
                                     int64_t call_rows, Body body, const Body* sum) {
  const int64_t rows = inputs[0].size(0);
  for (int64_t calls = 1; rows > calls * call_rows; calls *= 2) {
    const int64_t company = (rows + calls - 1) / calls;
    if (IsInvariant(operation, inputs, company, call_rows, body, sum)) return company;
  }
  return call_rows;
}

bool RowInvariance::IsInvariant(const Operation& operation, at::TensorList inputs, int64_t rows,
                                int64_t call_rows, Body body, const Body* sum) {
  Key key = KeyOf(operation, inputs, rows);
  const auto known = invariant_.find(key);
  if (known != invariant_.end()) return known->second;

  const Stopwatch stopwatch(&trial_time_);
  const bool is_rounded = inputs[0].scalar_type() != at::kFloat;
  const bool has_remainders = is_rounded && sum != nullptr;
  const int64_t results = is_rounded && !has_remainders ? kRoundedResults : 1;
  const bool invariant =
      AreRowsAsInCallsOf(call_rows, inputs, rows, results, body) &&
      (!has_remainders || AreRemaindersAsInCallsOf(call_rows, inputs[0], rows, *sum));
  invariant_.emplace(std::move(key), invariant);
  return invariant;
}

}  // namespace image_variations
