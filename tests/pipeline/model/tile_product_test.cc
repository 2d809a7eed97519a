#include "pipeline/model/tile_product.h"

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/full.h"
#include "ATen/ops/randn.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

at::Tensor Random(int64_t rows, int64_t columns) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  return at::randn({rows, columns}, generator, at::TensorOptions(at::kFloat)).to(at::kBFloat16);
}

// a * b, plus `start` where that is what it begins with, on rows that are wider than they need be.
at::Tensor Multiply(const at::Tensor& a, const at::Tensor& b, float start, bool add) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1), gap = 16;
  const at::Tensor wide_a = at::full({m, k + gap}, 7.0f, a.options());
  wide_a.narrow(1, 0, k).copy_(a);
  const at::Tensor pairs = b.view({k / 2, 2, n}).transpose(1, 2).contiguous();
  at::Tensor c = at::full({m, n + gap}, start, at::kFloat);
  const TileLayout layout;
  MultiplyTiles(m, n, k, k + gap, n, n + gap, add, wide_a.const_data_ptr<c10::BFloat16>(),
                pairs.const_data_ptr<c10::BFloat16>(), c.mutable_data_ptr<float>());
  EXPECT_TRUE((c.narrow(1, n, gap) == start).all().item<bool>()) << "wrote beyond its columns";
  return c.narrow(1, 0, n);
}

// One tile, blocks of two by two, and rests in each direction.
constexpr int64_t kSizes[][3] = {
    {16, 16, 32}, {32, 32, 64}, {48, 32, 32}, {32, 48, 96}, {80, 80, 160}};

TEST(MultiplyTiles, EqualsTheDefinition) {
  if (!HasTileProduct()) GTEST_SKIP() << "no tile registers here";
  for (const auto& [m, n, k] : kSizes) {
    const at::Tensor a = Random(m, k), b = Random(k, n);
    const at::Tensor expected = a.to(at::kDouble).matmul(b.to(at::kDouble));
    for (const bool add : {false, true}) {
      const at::Tensor difference = Multiply(a, b, 3, add) - (add ? 3 : 0) - expected;
      EXPECT_LT(difference.abs().max().item<double>(), 2e-4) << m << ", " << n << ", " << k;
    }
  }
}

}  // namespace
}  // namespace image_variations
