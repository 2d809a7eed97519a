#include "pipeline/model/row_invariance.h"

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/model/layers.h"
#include "pipeline/model/packed_weights.h"

namespace image_variations {
namespace {

using testing::ElementsAre;

// Three rows of four numbers.
at::Tensor ThreeRows() { return at::arange(12, at::kFloat).view({3, 4}); }

// The same for a row wherever it stands.
at::Tensor Double(at::TensorList inputs) { return inputs[0] * 2; }

// Like a kernel that blocks by batch size: another result in company.
at::Tensor DependsOnBatch(at::TensorList inputs) { return inputs[0] * inputs[0].size(0); }

// Rows of each call of an operation.
struct CallLog {
  mutable std::vector<int64_t> rows;
  at::Tensor operator()(at::TensorList inputs) const {
    rows.push_back(inputs[0].size(0));
    return Double(inputs);
  }
};

TEST(RowInvariance, AnInvariantOperationRunsOnTheWholeBatchOnceTried) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  rows.Run({.kind = "double"}, ThreeRows(), Double);
  CallLog log;
  const at::Tensor result = rows.Run({.kind = "double"}, ThreeRows(), log);
  EXPECT_THAT(log.rows, ElementsAre(3));
  EXPECT_TRUE(at::equal(result, ThreeRows() * 2));
}

TEST(RowInvariance, AnOperationThatDependsOnItsBatchRunsRowByRow) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  EXPECT_TRUE(at::equal(rows.Run({.kind = "bad"}, ThreeRows(), DependsOnBatch), ThreeRows()));
  EXPECT_EQ(rows.tried_and_split(), std::make_pair(2, 2));  // of three rows, and of two
}

TEST(RowInvariance, AnOperationThatDependsOnBatchesOverTwoRowsRunsInCallsOfTwo) {
  std::vector<int64_t> calls;
  const auto body = [&](at::TensorList inputs) {
    calls.push_back(inputs[0].size(0));
    return inputs[0] * (inputs[0].size(0) > 2 ? 3 : 1);
  };
  const at::Tensor x = at::arange(20, at::kFloat).view({5, 4});
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  rows.Run({.kind = "blocked"}, x, body);
  calls.clear();
  EXPECT_TRUE(at::equal(rows.Run({.kind = "blocked"}, x, body), x));
  EXPECT_THAT(calls, ElementsAre(2, 2, 2));
}

// A product with bfloat16 results whose terms are added in another order in company: few results
// show it after rounding.
at::Tensor OrderDependsOnBatch(at::TensorList inputs) {
  constexpr int64_t kTerms = 64;
  const at::Tensor terms = inputs[0].to(at::kFloat);
  const int64_t parts = terms.size(0) == 1 ? 1 : 4;
  at::Tensor sum = at::zeros({terms.size(0), terms.size(1), 1}, at::kFloat);
  for (int64_t i = 0; i < kTerms; ++i) {
    const int64_t term = i % parts * (kTerms / parts) + i / parts;
    sum = sum + terms.narrow(2, term, 1) * (1 + 0.37f * static_cast<float>(term % 7));
  }
  if (inputs[1].defined()) sum = sum + inputs[1].to(at::kFloat);
  return sum.to(at::kBFloat16);
}

TEST(RowInvariance, AnotherOrderOfAdditionsIsFoundThoughResultsAreRounded) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  const at::Tensor x = at::ones({16, 256, 64}, at::kBFloat16);
  rows.RunProduct({.kind = "product"}, {x, at::Tensor()}, OrderDependsOnBatch, OrderDependsOnBatch);
  EXPECT_EQ(rows.tried_and_split(), std::make_pair(4, 4));  // of 16, 8, 4 and 2 rows
}

TEST(RowInvariance, EveryNumberOfRowsIsTriedByItself) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  rows.Run({.kind = "double"}, ThreeRows(), Double);
  rows.Run({.kind = "double"}, ThreeRows().narrow(0, 0, 2), Double);
  EXPECT_EQ(rows.tried_and_split(), std::make_pair(2, 0));
}

TEST(RowInvariance, OneRowIsNotTried) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  rows.Run({.kind = "double"}, ThreeRows().narrow(0, 0, 1), Double);
  EXPECT_EQ(rows.tried_and_split(), std::make_pair(0, 0));
}

TEST(RowInvariance, AnOperationThatFillsTheMachineIsNeverBatched) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  CallLog log;
  rows.Run({.kind = "double", .row = {65, 20'000'000}}, ThreeRows(), log);
  EXPECT_THAT(log.rows, ElementsAre(1, 1, 1));
}

TEST(RowInvariance, AnOperationThatWaitsForItsWeightsIsBatched) {
  const RowInvariance::Operation operation = {.kind = "double", .row = {64, 20'000'000}};
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  rows.Run(operation, ThreeRows(), Double);
  CallLog log;
  rows.Run(operation, ThreeRows(), log);
  EXPECT_THAT(log.rows, ElementsAre(3));
}

TEST(RowInvariance, AChainWhoseWeightsACacheHoldsRunsRowByRow) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  const auto calls_of = [&](const RowInvariance::Work& row) {
    CallLog log;
    EXPECT_TRUE(at::equal(rows.RunChain(row, ThreeRows(), log), ThreeRows() * 2));
    return log.rows;
  };
  EXPECT_THAT(calls_of({.positions = 64, .weights = 800'000}), ElementsAre(1, 1, 1));
  EXPECT_THAT(calls_of({.positions = 64, .weights = 700'000}), ElementsAre(3));
  EXPECT_THAT(calls_of({.positions = 64, .weights = 20'000'000}), ElementsAre(3));
}

// 16 positions, and weights that no cache holds.
constexpr RowInvariance::Work kWaitsForWeights = {.positions = 16, .weights = 1 << 20};
constexpr int64_t kRowsTogether = 4;

at::Tensor PlusAddend(at::Tensor product, at::TensorList inputs) {
  return inputs[1].defined() ? product + inputs[1] : product;
}

// Like a kernel that is chosen by the number of rows, and may give each place another result.
struct ChosenByBatch {
  bool by_place = false;
  mutable std::vector<int64_t> rows = {};

  at::Tensor operator()(at::TensorList inputs) const {
    const int64_t batch = inputs[0].size(0);
    rows.push_back(batch);
    at::Tensor product = inputs[0] * batch;
    if (by_place) product = product + at::arange(batch, product.scalar_type()).unsqueeze(1);
    return PlusAddend(product, inputs);
  }
};

at::Tensor RunOf(RowInvariance& rows, const at::Tensor& x, const ChosenByBatch& body,
                 const ChosenByBatch& sum) {
  return rows.RunProduct({.kind = "product", .row = kWaitsForWeights}, {x, at::Tensor()}, body,
                         sum);
}
at::Tensor RunOf(RowInvariance& rows, const at::Tensor& x, const ChosenByBatch& product) {
  return RunOf(rows, x, product, product);
}

TEST(RowInvariance, ProductsThatWaitForWeightsRunInCallsOfOneSize) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  const at::Tensor x = at::arange(24, at::kFloat).view({6, 4});
  RunOf(rows, x, {});  // tried
  const ChosenByBatch log;
  const at::Tensor together = RunOf(rows, x, log);
  EXPECT_THAT(log.rows, ElementsAre(kRowsTogether, kRowsTogether));
  EXPECT_TRUE(at::equal(together, x * kRowsTogether));
  for (int64_t row = 0; row < 6; ++row) {
    EXPECT_TRUE(at::equal(RunOf(rows, x.narrow(0, row, 1), {}), together.narrow(0, row, 1)));
  }
}

TEST(RowInvariance, ACallOfOneSizeWithAnotherResultInEveryPlaceIsNotUsed) {
  const ChosenByBatch by_place{.by_place = true};
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  EXPECT_TRUE(at::equal(RunOf(rows, ThreeRows(), by_place), ThreeRows()));
}

TEST(RowInvariance, WhatRoundingHidesOfACallOfOneSizeIsLookedAtToo) {
  const at::Tensor x = ThreeRows().to(at::kBFloat16);
  const ChosenByBatch same_everywhere, by_place{.by_place = true};
  for (const auto& [body, sum] :
       {std::pair(by_place, same_everywhere), std::pair(same_everywhere, by_place)}) {
    RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
    EXPECT_TRUE(at::equal(RunOf(rows, x, body, sum), x));
  }
}

TEST(RowInvariance, ARowThatIsTheSameInCompanyIsNotFilledUp) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  const RowInvariance::Operation operation = {.kind = "double", .row = kWaitsForWeights};
  const auto product = [](at::TensorList inputs) { return PlusAddend(Double(inputs), inputs); };
  const at::Tensor x = ThreeRows().narrow(0, 0, 1);
  rows.RunProduct(operation, {x, at::Tensor()}, product, product);
  CallLog log;
  rows.RunProduct(operation, {x, at::Tensor()}, log, product);
  EXPECT_THAT(log.rows, ElementsAre(1));
}

// The real kernels, whatever they do on this machine.
TEST(RowInvariance, ALinearLayerOfTheDeeperLevelsIsTheSameInAnyCompany) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t positions : {16, 64, 256}) {
      RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
      const at::Tensor weight = at::randn({1280, 1280}, at::kFloat).to(dtype);
      const Linear linear = {
          .weight = PackLinearWeight(weight), .bias = at::zeros({1280}, dtype), .rows = &rows};
      const at::Tensor x = at::randn({9, positions, 1280}, at::kFloat).to(dtype);
      const at::Tensor together = linear.ForwardGelu(x);
      for (int64_t row = 0; row < 9; ++row) {
        EXPECT_TRUE(at::equal(linear.ForwardGelu(x.narrow(0, row, 1)), together.narrow(0, row, 1)))
            << "row " << row << ", " << positions << " positions, " << dtype;
      }
    }
  }
}

TEST(RowInvariance, RunAloneIsRowByRowAndKeepsTheOrder) {
  RowInvariance rows(RowInvariance::Policy::kRowsAsAlone);
  CallLog log;
  EXPECT_TRUE(at::equal(rows.RunAlone(ThreeRows(), log), ThreeRows() * 2));
  EXPECT_THAT(log.rows, ElementsAre(1, 1, 1));
}

TEST(RowInvariance, WholeBatchesAreLeftWhole) {
  RowInvariance rows(RowInvariance::Policy::kWholeBatches);
  CallLog log;
  rows.RunAlone(ThreeRows(), log);
  rows.Run({.kind = "double", .row = {1000, 1'000'000}}, ThreeRows(), log);
  EXPECT_THAT(log.rows, ElementsAre(3, 3));
}

}  // namespace
}  // namespace image_variations
