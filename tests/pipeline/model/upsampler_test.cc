#include "pipeline/model/upsampler.h"

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/upsample_nearest2d.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

struct Trial {
  RowInvariance rows{RowInvariance::Policy::kRowsAsAlone};
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  at::Tensor weight = at::randn({48, 48, 3, 3}, generator, at::TensorOptions(at::kFloat)) / 20;
  at::Tensor bias = at::randn({48}, generator, at::TensorOptions(at::kFloat));
  at::Tensor x = ToChannelsLast(at::randn({2, 48, 6, 5}, generator, at::TensorOptions(at::kFloat)));

  double LargestDifference(int64_t height, int64_t width) {
    const Upsampler upsampler = Upsampler::Make(weight, bias, /*side=*/6, &rows);
    const at::Tensor expected =
        at::conv2d(at::upsample_nearest2d(x.to(at::kDouble), {height, width}),
                   weight.to(at::kDouble), bias.to(at::kDouble), 1, 1);
    return (upsampler.Forward(x, height, width) - expected).abs().max().item<double>();
  }
};

TEST(Upsampler, EqualsAConvolutionOverTheLargePicture) {
  EXPECT_LT(Trial().LargestDifference(12, 10), 1e-5);
}

TEST(Upsampler, SizesThatAreNotTwiceTheSmallOnesWork) {
  EXPECT_LT(Trial().LargestDifference(11, 10), 1e-5);
  EXPECT_LT(Trial().LargestDifference(12, 9), 1e-5);
}

}  // namespace
}  // namespace image_variations
