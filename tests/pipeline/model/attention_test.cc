#include "pipeline/model/attention.h"

#include <cmath>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/softmax.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

struct Shape {
  int64_t rows, tokens, heads, head_width;
};

at::Tensor RandomProjections(const Shape& shape, at::ScalarType dtype) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  return at::randn({shape.rows, shape.tokens, 3 * shape.heads * shape.head_width}, generator,
                   at::TensorOptions(at::kFloat))
      .to(dtype);
}

// By the definition, in double.
at::Tensor Expected(const at::Tensor& projected, const Shape& shape) {
  const at::Tensor split = projected.to(at::kDouble)
                               .view({shape.rows, shape.tokens, 3, shape.heads, shape.head_width})
                               .permute({2, 0, 3, 1, 4});
  const at::Tensor scores =
      split[0].matmul(split[1].transpose(2, 3)) / std::sqrt(double(shape.head_width));
  return at::softmax(scores, -1)
      .matmul(split[2])
      .transpose(1, 2)
      .reshape({shape.rows, shape.tokens, shape.heads * shape.head_width});
}

double LargestDifference(const Shape& shape, at::ScalarType dtype) {
  const at::Tensor projected = RandomProjections(shape, dtype);
  const at::Tensor difference =
      Attend(projected, shape.heads).to(at::kDouble) - Expected(projected, shape);
  return difference.abs().max().item<double>();
}

// One block of keys, several with a rest, an odd number, one token; heads as wide as the VAE's.
constexpr Shape kShapes[] = {{1, 64, 8, 160}, {2, 1100, 2, 40}, {1, 257, 4, 16},
                             {3, 1, 2, 8},    {1, 600, 1, 512}, {1, 221, 3, 24}};

TEST(Attend, EqualsItsDefinitionInFloat32) {
  for (const Shape& shape : kShapes) {
    EXPECT_LT(LargestDifference(shape, at::kFloat), 5e-6) << shape.tokens << " tokens";
  }
}

TEST(Attend, EqualsItsDefinitionInBfloat16UpToRounding) {
  for (const Shape& shape : kShapes) {
    EXPECT_LT(LargestDifference(shape, at::kBFloat16), 0.02) << shape.tokens << " tokens";
  }
}

TEST(Attend, ARowIsTheSameAloneAndInCompanyOnAnyNumberOfThreads) {
  const Shape shape{3, 300, 2, 40};
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor projected = RandomProjections(shape, dtype);
    at::set_num_threads(1);
    const at::Tensor together = Attend(projected, shape.heads);
    at::set_num_threads(3);
    for (int64_t row = 0; row < shape.rows; ++row) {
      EXPECT_TRUE(
          at::equal(Attend(projected.narrow(0, row, 1), shape.heads), together.narrow(0, row, 1)));
    }
  }
}

TEST(Attend, LargeScoresDoNotOverflow) {
  const at::Tensor projected = at::full({1, 64, 3 * 8}, 100.0f);
  EXPECT_TRUE(at::allclose(Attend(projected, 1), at::full({1, 64, 8}, 100.0f), 1e-6));
}

TEST(Attend, WhatIsNotANumberStaysVisible) {
  at::Tensor projected = RandomProjections({1, 64, 1, 8}, at::kFloat);
  projected[0][5][0] = std::nanf("");  // a query
  EXPECT_TRUE(Attend(projected, 1)[0][5].isnan().all().item<bool>());
}

}  // namespace
}  // namespace image_variations
