#include "pipeline/model/weight_loader.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "ATen/Parallel.h"
#include "ATen/ops/aminmax.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/from_blob.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/alignment.h"
#include "pipeline/model/vector_math.h"

namespace image_variations {
namespace {

at::ScalarType ScalarTypeOf(TensorType type) {
  switch (type) {
    case TensorType::kFloat16:
      return at::kHalf;
    case TensorType::kBfloat16:
      return at::kBFloat16;
    case TensorType::kInt64:
      return at::kLong;
    case TensorType::kFloat32:
      break;
  }
  return at::kFloat;
}

at::IntArrayRef WithoutTrailingOnes(at::IntArrayRef shape) {
  while (shape.size() > 2 && shape.back() == 1) shape = shape.slice(0, shape.size() - 1);
  return shape;
}

bool SameMatrix(at::IntArrayRef a, at::IntArrayRef b) {
  return a == b || WithoutTrailingOnes(a) == WithoutTrailingOnes(b);
}

bool IsFinite(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  const auto [low, high] = at::aminmax(tensor);  // not-a-number wins both
  return std::isfinite(low.item<float>()) && std::isfinite(high.item<float>());
}

// Copies float32 numbers; whether all are finite in `to`, whose type is T. Of magnitudes, those
// with larger bits are larger, and bfloat16's infinity begins half a step below its own bits.
template <typename T>
bool CopyIsFinite(absl::Span<const char> from, const at::Tensor& to) {
  constexpr uint32_t kInfinity = std::is_same_v<T, float> ? 0x7f800000 : 0x7f7f8000;
  constexpr int64_t kGrain = 1 << 15;
  T* const out = to.mutable_data_ptr<T>();
  std::atomic<bool> is_finite = true;
  at::parallel_for(0, to.numel(), kGrain, [&](int64_t begin, int64_t end) {
    const char* const first = from.data() + begin * static_cast<int64_t>(sizeof(float));
    if (CopyAndFindLargest(first, end - begin, out + begin) >= kInfinity) is_finite = false;
  });
  return is_finite;
}

void AppendProblem(absl::string_view what, const std::vector<std::string>& tensors,
                   std::string* message) {
  if (tensors.empty()) return;
  absl::StrAppend(message, "; ", tensors.size(), " ", what, ": ", absl::StrJoin(tensors, ", "));
}

}  // namespace

WeightLoader::WeightLoader(const ComponentWeights& weights, Placement placement)
    : weights_(std::make_shared<const ComponentWeights>(weights)), placement_(placement) {
  for (std::string& name : weights_->names()) {
    // A constant 0, 1, 2, ... that old transformers saved.
    if (!absl::EndsWith(name, ".position_ids")) unused_.insert(std::move(name));
  }
}

bool WeightLoader::Has(absl::string_view name) const { return weights_->Find(name).ok(); }

at::Tensor WeightLoader::Take(const std::string& name, at::IntArrayRef shape) {
  const auto options = at::TensorOptions().device(placement_.device).dtype(placement_.dtype);
  TensorView view;
  if (!FindShaped(name, shape, &view)) return at::zeros(shape, options);
  return ToDevice(name, view, shape);
}

StoredWeight WeightLoader::TakeAsStored(const std::string& name, at::IntArrayRef shape) {
  if (!placement_.device.is_cpu()) {
    const at::Tensor tensor = Take(name, shape);
    return {tensor, tensor};
  }
  TensorView view;
  if (!FindShaped(name, shape, &view)) {
    const at::Tensor zeros = at::zeros(shape, placement_.dtype);
    return {zeros, zeros};
  }
  const at::Tensor stored = Mapped(view, shape);
  const at::Tensor values = stored.to(placement_.dtype, /*non_blocking=*/false, /*copy=*/true);
  if (!IsFinite(values)) not_finite_.push_back(NameWithFile(name));
  ComponentWeights::Release(view);
  return {stored, values};
}

void WeightLoader::Expect(const std::string& name, at::IntArrayRef shape) {
  TensorView view;
  if (!FindShaped(name, shape, &view)) return;
  ToDevice(name, view, shape);
  ComponentWeights::Release(view);
}

void WeightLoader::IgnorePrefix(absl::string_view prefix) {
  std::erase_if(unused_, [&](const std::string& name) { return absl::StartsWith(name, prefix); });
}

absl::Status WeightLoader::Finish() && {
  std::string problems;
  AppendProblem("missing", missing_, &problems);
  AppendProblem("extra", {unused_.begin(), unused_.end()}, &problems);
  AppendProblem("of another shape or type than config.json says", misshapen_, &problems);
  AppendProblem("with values that are not finite", not_finite_, &problems);
  if (problems.empty()) return absl::OkStatus();
  const auto path = [](std::string* out, const SafetensorsFile& file) {
    absl::StrAppend(out, file.path());
  };
  return absl::InvalidArgumentError(absl::StrCat("tensors of ", weights_->folder, " (",
                                                 absl::StrJoin(weights_->files, ", ", path), ")",
                                                 problems));
}

bool WeightLoader::FindShaped(const std::string& name, at::IntArrayRef shape, TensorView* view) {
  absl::StatusOr<TensorView> found = weights_->Find(name);
  if (!found.ok()) {
    missing_.push_back(name);
    return false;
  }
  unused_.erase(name);
  if (found->type == TensorType::kInt64) {
    misshapen_.push_back(absl::StrCat(NameWithFile(name), " has integers, needed fractions"));
    return false;
  }
  if (!SameMatrix(found->shape, shape)) {
    misshapen_.push_back(absl::StrCat(NameWithFile(name), " is (", absl::StrJoin(found->shape, ","),
                                      "), needed (", absl::StrJoin(shape, ","), ")"));
    return false;
  }
  *view = *std::move(found);
  return true;
}

// ATen has no view of constant memory; in inference nothing writes to weights.
at::Tensor WeightLoader::Mapped(const TensorView& view, at::IntArrayRef shape) const {
  return at::from_blob(
      const_cast<char*>(view.bytes.data()), shape,
      [file = weights_, view](void*) { ComponentWeights::Release(view); }, ScalarTypeOf(view.type));
}

at::Tensor WeightLoader::ToDevice(const std::string& name, const TensorView& view,
                                  at::IntArrayRef shape) {
  const at::ScalarType type = ScalarTypeOf(view.type), to = placement_.dtype;
  const bool is_cpu = placement_.device.is_cpu();
  const bool aligned = reinterpret_cast<uintptr_t>(view.bytes.data()) % c10::gAlignment == 0;
  at::Tensor tensor;
  bool is_finite = true;
  if (is_cpu && type == to && aligned) {  // stays mapped until it is packed
    tensor = Mapped(view, shape);
    is_finite = IsFinite(tensor);
  } else if (is_cpu && type == at::kFloat && (to == at::kFloat || to == at::kBFloat16)) {
    tensor = at::empty(shape, to);  // one pass over memory
    is_finite = to == at::kFloat ? CopyIsFinite<float>(view.bytes, tensor)
                                 : CopyIsFinite<c10::BFloat16>(view.bytes, tensor);
    ComponentWeights::Release(view);
  } else {
    at::Tensor copy = at::empty(shape, type);
    std::memcpy(copy.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
    ComponentWeights::Release(view);
    tensor = copy.to(placement_.device, to);
    is_finite = IsFinite(tensor);
  }
  if (!is_finite) not_finite_.push_back(NameWithFile(name));
  return tensor;
}

std::string WeightLoader::NameWithFile(const std::string& name) const {
  if (weights_->files.size() == 1) return name;
  return absl::StrCat(name, " (in ", weights_->FileOf(name), ")");
}

WeightScope WeightScope::operator[](absl::string_view name) const {
  return WeightScope(*loader_, absl::StrCat(prefix_, name, "."));
}

WeightScope WeightScope::operator[](size_t index) const {
  return WeightScope(*loader_, absl::StrCat(prefix_, index, "."));
}

at::Tensor WeightScope::Take(absl::string_view name, at::IntArrayRef shape) const {
  return loader_->Take(absl::StrCat(prefix_, name), shape);
}

StoredWeight WeightScope::TakeAsStored(absl::string_view name, at::IntArrayRef shape) const {
  return loader_->TakeAsStored(absl::StrCat(prefix_, name), shape);
}

void WeightScope::Expect(absl::string_view name, at::IntArrayRef shape) const {
  loader_->Expect(absl::StrCat(prefix_, name), shape);
}

}  // namespace image_variations
