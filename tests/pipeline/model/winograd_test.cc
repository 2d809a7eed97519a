#include "pipeline/model/winograd.h"

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/randn.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

struct Trial {
  at::ScalarType type = at::kFloat;
  int64_t in = 32, out = 80, height = 12, width = 10, rows = 1;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);

  at::Tensor Random(at::IntArrayRef sizes) {
    return at::randn(sizes, generator, at::TensorOptions(at::kFloat)).to(type);
  }
  at::Tensor weight = Random({out, in, 3, 3}), bias = Random({out});
  at::Tensor x = Random({rows, in, height, width}).contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor addend = Random({rows, out, height, width}).contiguous(at::MemoryFormat::ChannelsLast);

  // Relative to the size of results.
  double LargestDifference(bool with_addend) {
    const auto exact = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    at::Tensor expected = at::conv2d(exact(x), exact(weight), exact(bias), 1, 1);
    if (with_addend) expected += exact(addend);
    const at::Tensor result =
        RunWinograd(x, PackWinogradWeight(weight), bias, with_addend ? addend : at::Tensor());
    EXPECT_TRUE(result.is_contiguous(at::MemoryFormat::ChannelsLast));
    return ((result - expected).abs().max() / expected.std()).item<double>();
  }
};

class Winograd : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasWinogradKernel(Trial().weight)) GTEST_SKIP() << "needs AVX-512";
  }
};

TEST_F(Winograd, EqualsTheConvolutionOfItsDefinition) {
  EXPECT_LT(Trial().LargestDifference(false), 2e-6);
  EXPECT_LT(
      (Trial{.in = 16, .out = 64, .height = 40, .width = 44, .rows = 2}.LargestDifference(true)),
      2e-6);
}

TEST_F(Winograd, SidesMayBeOddAndOne) {
  EXPECT_LT((Trial{.height = 7, .width = 9, .rows = 3}.LargestDifference(true)), 2e-6);
  EXPECT_LT((Trial{.height = 1, .width = 1}.LargestDifference(false)), 2e-6);
}

TEST_F(Winograd, Bfloat16IsWithinItsRounding) {
  EXPECT_LT((Trial{.type = at::kBFloat16, .rows = 2}.LargestDifference(true)), 0.03);
}

TEST_F(Winograd, ARowHasTheSameBitsInCompanyAndOnOneThread) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    Trial trial{.type = type, .height = 18, .width = 22, .rows = 3};
    const at::Tensor weight = PackWinogradWeight(trial.weight);
    const at::Tensor together = RunWinograd(trial.x, weight, trial.bias, trial.addend);
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    for (int64_t row = 0; row < trial.rows; ++row) {
      const at::Tensor alone = RunWinograd(trial.x.narrow(0, row, 1), weight, trial.bias,
                                           trial.addend.narrow(0, row, 1));
      EXPECT_TRUE(alone.equal(together.narrow(0, row, 1))) << "row " << row;
    }
    at::set_num_threads(threads);
  }
}

}  // namespace
}  // namespace image_variations
