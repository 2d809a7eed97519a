// UNet calls of few fixed sizes, recorded at their second time and replayed from then on: on a GPU
// one launch instead of a thousand.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "pipeline/model/device.h"

namespace image_variations {

// Engine thread only.
class CallRecorder {
 public:
  using Tensors = std::vector<at::Tensor>;
  using Forward = absl::FunctionRef<at::Tensor(const Tensors&)>;
  using Factory = std::function<std::unique_ptr<RecordedCall>()>;

  // Without a factory calls just run.
  explicit CallRecorder(Factory make) : make_(std::move(make)) {}

  // forward(inputs), which must depend on nothing else. Calls with inputs of equal sizes share a
  // recording. A call that cannot be recorded ends all recording, and runs as it is; one for whose
  // recording memory lacks puts it off, for a thousand calls.
  at::Tensor Run(const Tensors& inputs, Forward forward);

  // Forgets all recordings, which hold memory.
  void Clear() { calls_.clear(); }

  size_t recorded() const;

  static constexpr size_t kMaxCalls = 32;
  static constexpr int64_t kCallsUntilNextTry = 1000;

 private:
  struct Call {
    Tensors inputs;
    at::Tensor output;
    std::unique_ptr<RecordedCall> recording;  // the call's second time has not come: nullptr
    int64_t last_use = 0;
  };

  Call& CallOf(const Tensors& inputs, bool* is_new);
  absl::Status Record(Call&, const Tensors& inputs, Forward forward);
  void PutOff(const absl::Status& failure);

  Factory make_;                                // empty after a failure
  std::map<std::vector<int64_t>, Call> calls_;  // by the sizes of their inputs
  int64_t uses_ = 0;
  int64_t record_from_ = 0;  // which of the uses
};

}  // namespace image_variations
