// One component's tensors: checkpoint names in, tensors on the device out, each looked at once.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/row_invariance.h"

namespace image_variations {

// Where and how networks run. `rows` outlives them.
struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  RowInvariance* rows = nullptr;
};

// Kernels that seldom are needed as they are. `stored`: on the CPU in the mapped file, in the
// file's type, at any alignment and with no page of it in memory until it is read; elsewhere the
// same as `values`. `values`: as from TakeKernels, to make something else of.
struct StoredKernels {
  at::Tensor stored, values;
};

// A tensor that already has the compute type on the CPU, and happens to begin where LibTorch would
// have put it, stays in the mapped file, which it keeps alive. Any other is converted or copied by
// itself, and its pages of the file are let go: matrix products round differently by alignment, and
// a picture must not depend on how a file is laid out. Problems are collected, so that one message
// tells all of them; until Finish() a bad tensor reads as zeros.
class WeightLoader {
 public:
  WeightLoader(const ComponentWeights&, Placement);

  const Placement& placement() const { return placement_; }
  bool Has(absl::string_view name) const;
  // Shapes compare without trailing ones when one is a matrix and the other its 1x1 convolution.
  at::Tensor Take(const std::string& name, at::IntArrayRef shape);
  // A convolution's kernels, (out, in, height, width), channels last: never in the mapped file.
  at::Tensor TakeKernels(const std::string& name, at::IntArrayRef shape);
  StoredKernels TakeStoredKernels(const std::string& name, at::IntArrayRef shape);
  // A tensor that a complete checkpoint has and that is not needed: checked, not kept.
  void Expect(const std::string& name, at::IntArrayRef shape);
  // Tensors that may be there and are not needed.
  void IgnorePrefix(absl::string_view prefix);
  // INVALID_ARGUMENT: every missing, extra, misshapen and non-finite tensor, and its file.
  absl::Status Finish() &&;

 private:
  at::Tensor TakeIn(at::MemoryFormat, const std::string& name, at::IntArrayRef shape);
  bool FindShaped(const std::string& name, at::IntArrayRef shape, TensorView* view);
  at::Tensor Zeros(at::IntArrayRef shape, at::MemoryFormat) const;
  at::Tensor Mapped(const TensorView&, at::IntArrayRef shape) const;
  // Notes `name` if a value is not finite.
  at::Tensor ToDevice(const std::string& name, const TensorView&, at::IntArrayRef shape,
                      at::MemoryFormat);
  std::string NameWithFile(const std::string& name) const;  // with the shard, if there are several

  const std::shared_ptr<const ComponentWeights> weights_;
  const Placement placement_;
  std::set<std::string> unused_;
  std::vector<std::string> missing_;
  std::vector<std::string> misshapen_;
  std::vector<std::string> not_finite_;
};

// A place in the tree of names: WeightScope(loader)["down_blocks"][0]["resnets"][1].
class WeightScope {
 public:
  explicit WeightScope(WeightLoader& loader, std::string prefix = "")
      : loader_(&loader), prefix_(std::move(prefix)) {}

  WeightScope operator[](absl::string_view name) const;
  WeightScope operator[](size_t index) const;

  const Placement& placement() const { return loader_->placement(); }
  bool Has(absl::string_view name) const { return loader_->Has(prefix_ + std::string(name)); }
  at::Tensor Take(absl::string_view name, at::IntArrayRef shape) const;
  at::Tensor TakeKernels(absl::string_view name, at::IntArrayRef shape) const;
  StoredKernels TakeStoredKernels(absl::string_view name, at::IntArrayRef shape) const;
  void Expect(absl::string_view name, at::IntArrayRef shape) const;

 private:
  WeightLoader* loader_;
  std::string prefix_;  // with the final dot
};

}  // namespace image_variations
