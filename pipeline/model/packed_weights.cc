#include "pipeline/model/packed_weights.h"

#include <optional>

#include "ATen/Context.h"
#include "ATen/Version.h"
#include "ATen/core/List.h"
#include "ATen/core/dispatch/Dispatcher.h"
#include "ATen/ops/conv2d.h"
#include "ATen/ops/gelu.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/mkldnn_convolution.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/tile_product.h"
#include "pipeline/model/winograd.h"

namespace image_variations {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Scalars = c10::List<std::optional<at::Scalar>>;
using OptionalName = std::optional<c10::string_view>;

// Below this a call of oneDNN costs more than the product.
constexpr int64_t kWorthPacking = 256 * 256;

// On smaller pictures reading the transformed weights, 16/9 of the plain ones, costs what they
// save.
constexpr int64_t kLeastWinogradSide = 32;

// LibTorch's names for oneDNN's operations, which have no C++ header: aten's
// native/mkldnn/RegisterMkldnnOpContextClass.cpp.
template <typename Signature>
auto Find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// On other machines bf16 products run in reference kernels, a hundred times slower.
bool HasPackedKernels(const at::Tensor& weight) {
  if (!weight.is_cpu() || !at::hasMKLDNN()) return false;
  if (weight.scalar_type() == at::kFloat) return true;
  return weight.scalar_type() == at::kBFloat16 && at::get_cpu_capability() == "AVX512";
}

// There oneDNN multiplies faster than a picture can be transformed.
bool RunsOnTiles(const at::Tensor& weight) {
  return weight.scalar_type() == at::kBFloat16 && HasTileProduct();
}

const char* BinaryName(PostOp post_op) { return post_op == PostOp::kAdd ? "add" : "mul"; }

at::Tensor Apply(PostOp post_op, at::Tensor product, const at::Tensor& operand) {
  switch (post_op) {
    case PostOp::kNone:
      return product;
    case PostOp::kGelu:
      return at::gelu(product);
    case PostOp::kAdd:
      return product.add_(operand);
    case PostOp::kMultiply:
      return product.mul_(operand);
  }
  return product;
}

OptionalTensor Optional(const at::Tensor& bias) {
  return bias.defined() ? OptionalTensor(bias) : std::nullopt;
}

}  // namespace

at::Tensor PackLinearWeight(const at::Tensor& weight) {
  if (!HasPackedKernels(weight) || weight.numel() < kWorthPacking) return weight;
  static const auto op = Find<at::Tensor(const at::Tensor&, std::optional<int64_t>)>(
      "mkldnn::_reorder_linear_weight", "");
  return op.call(weight, std::nullopt);
}

at::Tensor PackConv2dWeight(const at::Tensor& weight, int64_t stride, int64_t padding,
                            int64_t side) {
  if (stride == 1 && padding == 1 && side >= kLeastWinogradSide && HasWinogradKernel(weight) &&
      !RunsOnTiles(weight)) {
    return PackWinogradWeight(weight);
  }
  if (!HasPackedKernels(weight)) {
    return weight.is_cpu() ? weight : weight.contiguous(at::MemoryFormat::ChannelsLast);
  }
  static const auto op =
      Find<at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                      at::OptionalIntArrayRef)>("mkldnn::_reorder_convolution_weight", "");
  const std::vector<int64_t> input_sizes = {1, weight.size(1), side, side};
  return op.call(weight, {padding, padding}, {stride, stride}, {1, 1}, 1, input_sizes);
}

at::Tensor RunLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     PostOp post_op, const at::Tensor& operand) {
  if (!weight.is_mkldnn()) return Apply(post_op, at::linear(x, weight, bias), operand);
  static const auto unary =
      Find<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&, c10::string_view,
                      Scalars, OptionalName)>("mkldnn::_linear_pointwise", "");
  static const auto binary =
      Find<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                      const OptionalTensor&, c10::string_view)>("mkldnn::_linear_pointwise",
                                                                "binary");
  if (operand.defined())
    return binary.call(x, operand, weight, Optional(bias), BinaryName(post_op));
  if (post_op == PostOp::kGelu)
    return unary.call(x, weight, Optional(bias), "gelu", Scalars(), "none");
  return unary.call(x, weight, Optional(bias), "none", Scalars(), "");
}

at::Tensor RunConv2d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     int64_t stride, int64_t padding, PostOp post_op, const at::Tensor& operand) {
  IV_CHECK(post_op == PostOp::kNone || post_op == PostOp::kAdd);
  if (IsWinogradWeight(weight)) return RunWinograd(x, weight, bias, operand);
  if (!weight.is_mkldnn()) {
    return Apply(post_op, at::conv2d(x, weight, bias, stride, padding), operand);
  }
  static const auto unary =
      Find<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&, at::IntArrayRef,
                      at::IntArrayRef, at::IntArrayRef, int64_t, c10::string_view, Scalars,
                      OptionalName)>("mkldnn::_convolution_pointwise", "");
  static const auto binary =
      Find<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                      const OptionalTensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                      int64_t, c10::string_view, std::optional<at::Scalar>, OptionalName, Scalars,
                      OptionalName)>("mkldnn::_convolution_pointwise", "binary");
  const std::vector<int64_t> strides = {stride, stride}, paddings = {padding, padding},
                             dilations = {1, 1};
  if (!operand.defined()) {
    return unary.call(x, weight, Optional(bias), paddings, strides, dilations, 1, "none", Scalars(),
                      "");
  }
  return binary.call(x, operand, weight, Optional(bias), paddings, strides, dilations, 1, "add",
                     at::Scalar(1), std::nullopt, Scalars(), std::nullopt);
}

}  // namespace image_variations
