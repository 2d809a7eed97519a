#include "pipeline/model/upsampler.h"

#include <vector>

#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/upsample_nearest2d.h"

namespace image_variations {
namespace {

// One direction of a 3x3 kernel, over pairs of neighbours of the small picture. Even results see
// the one before once and their own twice, odd ones their own twice and the one after once.
at::Tensor AddEqual(const at::Tensor& kernel, int64_t dim, bool is_odd) {
  const auto at_offset = [&](int64_t i) { return kernel.select(dim, i); };
  return is_odd ? at::stack({at_offset(0) + at_offset(1), at_offset(2)}, dim)
                : at::stack({at_offset(0), at_offset(1) + at_offset(2)}, dim);
}

at::Tensor PhaseWeights(const at::Tensor& weight) {
  const at::Tensor exact = weight.to(at::kFloat);
  std::vector<at::Tensor> phases;
  for (const bool odd_row : {false, true}) {
    for (const bool odd_column : {false, true}) {
      phases.push_back(AddEqual(AddEqual(exact, 2, odd_row), 3, odd_column));
    }
  }
  return at::cat(phases).to(weight.scalar_type());
}

}  // namespace

Upsampler Upsampler::Load(const WeightScope& scope, int64_t channels, int64_t side) {
  return Make(scope.Take("weight", {channels, channels, 3, 3}), scope.Take("bias", {channels}),
              side, scope.placement().rows);
}

Upsampler Upsampler::Make(const at::Tensor& weight, const at::Tensor& bias, int64_t side,
                          RowInvariance* rows) {
  return {.phases = {.weight = PackConv2dWeight(PhaseWeights(weight), 1, 1, side),
                     .bias = at::cat({bias, bias, bias, bias}),
                     .padding = 1,
                     .rows = rows},
          .conv = {.weight = weight, .bias = bias, .padding = 1, .rows = rows}};
}

at::Tensor Upsampler::Forward(const at::Tensor& x, int64_t height, int64_t width) const {
  if (height != 2 * x.size(2) || width != 2 * x.size(3)) {
    return ToChannelsLast(conv.Forward(at::upsample_nearest2d(x, {height, width})));
  }
  // One row and column more than x: the odd phases begin where the even ones have their second.
  const at::Tensor all = phases.Forward(x);
  const int64_t channels = conv.weight.size(0);
  at::Tensor out =
      at::empty({x.size(0), channels, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  for (int64_t phase = 0; phase < 4; ++phase) {
    const int64_t row = phase / 2, column = phase % 2;
    out.slice(2, row, height, 2)
        .slice(3, column, width, 2)
        .copy_(all.narrow(1, phase * channels, channels)
                   .narrow(2, row, x.size(2))
                   .narrow(3, column, x.size(3)));
  }
  return out;
}

}  // namespace image_variations
