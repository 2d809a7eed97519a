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

// Copies float32 numbers in order to `to`, whose type is T; whether all are finite there. Of
// magnitudes, those with larger bits are larger, and bfloat16's infinity begins half a step below
// its own bits. `to` is contiguous, or channels last, where numbers of one position follow each
// other that are all positions apart in `from`.
template <typename T>
bool CopyIsFinite(absl::Span<const char> from, const at::Tensor& to) {
  constexpr uint32_t kInfinity = std::is_same_v<T, float> ? 0x7f800000 : 0x7f7f8000;
  constexpr int64_t kGrain = 1 << 15;
  T* const out = to.mutable_data_ptr<T>();
  std::atomic<bool> is_finite = true;
  const auto copy = [&](int64_t first, int64_t stride, int64_t count, T* result) {
    const char* const begin = from.data() + first * static_cast<int64_t>(sizeof(float));
    if (CopyAndFindLargest(begin, stride, count, result) >= kInfinity) is_finite = false;
  };
  if (to.is_contiguous()) {
    at::parallel_for(0, to.numel(), kGrain,
                     [&](int64_t begin, int64_t end) { copy(begin, 1, end - begin, out + begin); });
    return is_finite;
  }
  const int64_t channels = to.size(1), positions = to.size(2) * to.size(3);
  at::parallel_for(
      0, to.size(0) * positions, 1 + kGrain / channels, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = i / positions, position = i % positions;
          copy(row * channels * positions + position, positions, channels, out + i * channels);
        }
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
  return TakeIn(at::MemoryFormat::Contiguous, name, shape);
}

at::Tensor WeightLoader::TakeKernels(const std::string& name, at::IntArrayRef shape) {
  return TakeIn(at::MemoryFormat::ChannelsLast, name, shape);
}

at::Tensor WeightLoader::TakeIn(at::MemoryFormat format, const std::string& name,
                                at::IntArrayRef shape) {
  TensorView view;
  return FindShaped(name, shape, &view) ? ToDevice(name, view, shape, format)
                                        : Zeros(shape, format);
}

StoredKernels WeightLoader::TakeStoredKernels(const std::string& name, at::IntArrayRef shape) {
  constexpr auto kFormat = at::MemoryFormat::ChannelsLast;
  TensorView view;
  const bool is_found = FindShaped(name, shape, &view);
  const at::Tensor values = is_found ? ToDevice(name, view, shape, kFormat) : Zeros(shape, kFormat);
  return {is_found && values.is_cpu() ? Mapped(view, shape) : values, values};
}

void WeightLoader::Expect(const std::string& name, at::IntArrayRef shape) {
  TensorView view;
  if (!FindShaped(name, shape, &view)) return;
  ToDevice(name, view, shape, at::MemoryFormat::Contiguous);
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

at::Tensor WeightLoader::Zeros(at::IntArrayRef shape, at::MemoryFormat format) const {
  const auto options = at::TensorOptions().device(placement_.device).dtype(placement_.dtype);
  return at::zeros(shape, options).contiguous(format);
}

// ATen has no view of constant memory; in inference nothing writes to weights.
at::Tensor WeightLoader::Mapped(const TensorView& view, at::IntArrayRef shape) const {
  return at::from_blob(
      const_cast<char*>(view.bytes.data()), shape,
      [file = weights_, view](void*) { ComponentWeights::Release(view); }, ScalarTypeOf(view.type));
}

at::Tensor WeightLoader::ToDevice(const std::string& name, const TensorView& view,
                                  at::IntArrayRef shape, at::MemoryFormat format) {
  const at::ScalarType type = ScalarTypeOf(view.type), to = placement_.dtype;
  const bool is_cpu = placement_.device.is_cpu();
  const bool can_stay = format == at::MemoryFormat::Contiguous &&
                        reinterpret_cast<uintptr_t>(view.bytes.data()) % c10::gAlignment == 0;
  at::Tensor tensor;
  bool is_finite = true;
  if (is_cpu && type == to && can_stay) {  // stays mapped until it is packed
    tensor = Mapped(view, shape);
    is_finite = IsFinite(tensor);
  } else if (is_cpu && type == at::kFloat && (to == at::kFloat || to == at::kBFloat16)) {
    tensor = at::empty(shape, to, format);  // one pass over memory
    is_finite = to == at::kFloat ? CopyIsFinite<float>(view.bytes, tensor)
                                 : CopyIsFinite<c10::BFloat16>(view.bytes, tensor);
    ComponentWeights::Release(view);
  } else {
    at::Tensor copy = at::empty(shape, type);
    std::memcpy(copy.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
    ComponentWeights::Release(view);
    tensor = copy.to(placement_.device, to).contiguous(format);
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

at::Tensor WeightScope::TakeKernels(absl::string_view name, at::IntArrayRef shape) const {
  return loader_->TakeKernels(absl::StrCat(prefix_, name), shape);
}

StoredKernels WeightScope::TakeStoredKernels(absl::string_view name, at::IntArrayRef shape) const {
  return loader_->TakeStoredKernels(absl::StrCat(prefix_, name), shape);
}

void WeightScope::Expect(absl::string_view name, at::IntArrayRef shape) const {
  loader_->Expect(absl::StrCat(prefix_, name), shape);
}

}  // namespace image_variations
