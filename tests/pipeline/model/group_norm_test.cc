#include "pipeline/model/group_norm.h"

#include <cmath>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/group_norm.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/silu.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

at::Tensor Random(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
  static const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const at::Tensor values = at::randn(sizes, generator, at::TensorOptions(at::kFloat)).to(dtype);
  return sizes.size() == 4 ? values.contiguous(at::MemoryFormat::ChannelsLast) : values;
}

double LargestDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

at::Tensor Expected(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const GroupNormOptions& options) {
  return at::group_norm(x.to(at::kDouble).contiguous(), options.groups, weight.to(at::kDouble),
                        bias.to(at::kDouble), options.eps);
}

TEST(GroupNorm, EqualsAtenInEveryCombination) {
  const at::Tensor weight = Random({48}), bias = Random({48});
  const at::Tensor x = Random({2, 32, 9, 7}), skip = Random({2, 16, 9, 7});
  const at::Tensor channel_bias = Random({2, 48});
  const at::Tensor both = at::cat({x, skip}, 1);
  for (const bool silu : {false, true}) {
    const GroupNormOptions options{.groups = 12, .silu = silu};  // 4 channels a group
    const at::Tensor plain =
        Expected(both + channel_bias.unsqueeze(-1).unsqueeze(-1), weight, bias, options);
    const at::Tensor expected = silu ? at::silu(plain) : plain;
    EXPECT_LT(LargestDifference(GroupNormChannelsLast(x, skip, channel_bias, weight, bias, options),
                                expected),
              3e-6);
  }
}

TEST(GroupNorm, InPlaceIsTheSame) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor weight = Random({72}, dtype), bias = Random({72}, dtype);
    const at::Tensor x = Random({2, 72, 33, 9}, dtype);  // 72: vectors of 16 and a rest
    const at::Tensor expected =
        GroupNormChannelsLast(x, {}, {}, weight, bias, {.groups = 12, .silu = true});
    const at::Tensor result = GroupNormChannelsLast(x, {}, {}, weight, bias,
                                                    {.groups = 12, .silu = true, .in_place = true});
    EXPECT_EQ(result.const_data_ptr(), x.const_data_ptr());
    EXPECT_TRUE(at::equal(x, expected)) << dtype;
  }
}

TEST(GroupNorm, RoundsOnceInBfloat16) {
  const at::Tensor x = Random({1, 64, 16, 16}, at::kBFloat16);
  const at::Tensor weight = Random({64}, at::kBFloat16), bias = Random({64}, at::kBFloat16);
  const at::Tensor expected = Expected(x, weight, bias, {}).to(at::kBFloat16);
  const at::Tensor actual = GroupNormChannelsLast(x, {}, {}, weight, bias, {});
  EXPECT_LT(LargestDifference(actual, expected), 0.04);  // a unit in the last place of 8
}

TEST(GroupNorm, AMeanFarFromZeroDoesNotCancelTheVariance) {
  const at::Tensor x = Random({1, 32, 64, 64}) + 1000;
  const at::Tensor weight = Random({32}), bias = Random({32});
  EXPECT_LT(LargestDifference(GroupNormChannelsLast(x, {}, {}, weight, bias, {.groups = 8}),
                              Expected(x, weight, bias, {.groups = 8})),
            1e-3);  // 1000 has 6e-5 for its last bit
}

TEST(GroupNorm, ARowIsTheSameAloneAndInCompanyOnAnyNumberOfThreads) {
  const at::Tensor x = Random({3, 64, 33, 33}), weight = Random({64}), bias = Random({64});
  const GroupNormOptions options{.silu = true};
  at::set_num_threads(1);
  const at::Tensor together = GroupNormChannelsLast(x, {}, {}, weight, bias, options);
  at::set_num_threads(3);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_TRUE(at::equal(GroupNormChannelsLast(x.narrow(0, row, 1), {}, {}, weight, bias, options),
                          together.narrow(0, row, 1)));
  }
}

TEST(GroupNorm, WhatIsNotANumberStaysVisible) {
  at::Tensor x = Random({1, 32, 4, 4});
  x[0][3][1][1] = std::nanf("");
  const at::Tensor one = Random({32});
  EXPECT_TRUE(
      GroupNormChannelsLast(x, {}, {}, one, one, {.silu = true})[0][3].isnan().all().item<bool>());
}

}  // namespace
}  // namespace image_variations
