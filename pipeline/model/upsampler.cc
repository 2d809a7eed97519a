#include "pipeline/model/upsampler.h"

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/upsample_nearest2d.h"

namespace image_variations {
namespace {

// One direction of a 3x3 kernel, over pairs of neighbours of the small picture. Even results see
// the one before once and their own twice, odd ones their own twice and the one after once.
at::Tensor AddEqual(const at::Tensor& kernel, int64_t dim, bool is_odd) {
  const auto at_offset = [&](int64_t i) { return kernel.narrow(dim, i, 1); };
  return is_odd ? at::cat({at_offset(0) + at_offset(1), at_offset(2)}, dim)
                : at::cat({at_offset(0), at_offset(1) + at_offset(2)}, dim);
}

at::Tensor PhaseWeights(const at::Tensor& weight, bool is_odd_row) {
  const at::Tensor rows = AddEqual(weight.to(at::kFloat), 2, is_odd_row);
  return at::cat({AddEqual(rows, 3, false), AddEqual(rows, 3, true)}).to(weight.scalar_type());
}

}  // namespace

Upsampler Upsampler::Load(const WeightScope& scope, int64_t channels, int64_t side) {
  const StoredKernels weight = scope.TakeStoredKernels("weight", {channels, channels, 3, 3});
  Upsampler upsampler =
      Make(weight.values, scope.Take("bias", {channels}), side, scope.placement().rows);
  upsampler.weight = weight.stored;
  return upsampler;
}

Upsampler Upsampler::Make(const at::Tensor& weight, const at::Tensor& bias, int64_t side,
                          RowInvariance* rows) {
  const auto phases_of = [&](bool is_odd_row) {
    return Conv2d{.weight = PackConv2dWeight(PhaseWeights(weight, is_odd_row), 1, 1, side),
                  .bias = at::cat({bias, bias}),
                  .padding = 1,
                  .rows = rows};
  };
  return {.phases = {phases_of(false), phases_of(true)}, .weight = weight, .bias = bias};
}

at::Tensor Upsampler::Forward(const at::Tensor& x, int64_t height, int64_t width) const {
  if (height != 2 * x.size(2) || width != 2 * x.size(3)) return ForwardPlain(x, height, width);
  const int64_t channels = bias.size(0);
  at::Tensor out =
      at::empty({x.size(0), channels, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  for (int64_t row = 0; row < 2; ++row) {
    // One row and column more than x: the odd phases begin where the even ones have their second.
    const at::Tensor columns = phases[static_cast<size_t>(row)].Forward(x);
    for (int64_t column = 0; column < 2; ++column) {
      out.slice(2, row, height, 2)
          .slice(3, column, width, 2)
          .copy_(columns.narrow(1, column * channels, channels)
                     .narrow(2, row, x.size(2))
                     .narrow(3, column, x.size(3)));
    }
  }
  return out;
}

at::Tensor Upsampler::ForwardPlain(const at::Tensor& x, int64_t height, int64_t width) const {
  // A copy begins where products of any file's layout round alike.
  const bool is_stored = x.is_cpu();
  const Conv2d conv = {
      .weight =
          is_stored ? weight.to(x.scalar_type(), /*non_blocking=*/false, /*copy=*/true) : weight,
      .bias = bias,
      .padding = 1,
      .rows = phases[0].rows};
  return ToChannelsLast(conv.Forward(at::upsample_nearest2d(x, {height, width})));
}

}  // namespace image_variations
