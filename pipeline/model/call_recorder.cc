#include "pipeline/model/call_recorder.h"

#include <algorithm>

#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/torch_guard.h"

namespace image_variations {

at::Tensor CallRecorder::Run(const Tensors& inputs, Forward forward) {
  if (!make_) return forward(inputs);
  bool is_new = false;
  Call& call = CallOf(inputs, &is_new);
  // The first time is for what libraries set up once, which cannot be recorded.
  if (is_new) return forward(inputs);
  if (!call.recording) {
    if (uses_ < record_from_) return forward(inputs);
    if (const absl::Status status = Record(call, inputs, forward); !status.ok()) {
      PutOff(status);
      return forward(inputs);
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    call.inputs[i].copy_(inputs[i], /*non_blocking=*/true);
  }
  call.recording->Replay();
  return call.output.clone();  // the next replay of any call may write there
}

size_t CallRecorder::recorded() const {
  return static_cast<size_t>(std::count_if(calls_.begin(), calls_.end(), [](const auto& entry) {
    return entry.second.recording != nullptr;
  }));
}

CallRecorder::Call& CallRecorder::CallOf(const Tensors& inputs, bool* is_new) {
  std::vector<int64_t> sizes;
  for (const at::Tensor& input : inputs) {
    sizes.insert(sizes.end(), input.sizes().begin(), input.sizes().end());
  }
  *is_new = !calls_.contains(sizes);
  if (*is_new && calls_.size() >= kMaxCalls) {
    calls_.erase(std::min_element(calls_.begin(), calls_.end(), [](const auto& a, const auto& b) {
      return a.second.last_use < b.second.last_use;
    }));
  }
  Call& call = calls_[sizes];
  call.last_use = ++uses_;
  return call;
}

void CallRecorder::PutOff(const absl::Status& failure) {
  if (absl::IsResourceExhausted(failure)) {
    Log(Severity::kWarning, "no memory to record a call", {{"why", failure.message()}});
    record_from_ = uses_ + kCallsUntilNextTry;
    return;
  }
  Log(Severity::kWarning, "calls are not recorded", {{"why", failure.message()}});
  Clear();
  make_ = nullptr;
}

absl::Status CallRecorder::Record(Call& call, const Tensors& inputs, Forward forward) {
  std::unique_ptr<RecordedCall> recording = make_();
  if (!recording) return absl::UnimplementedError("this device records no calls");
  Tensors copies;
  at::Tensor output;
  const absl::Status begun = GuardTorch("recording a call", [&] {
    for (const at::Tensor& input : inputs) copies.push_back(input.clone());
    recording->Begin();
    output = forward(copies);
    return absl::OkStatus();
  });
  // Also after a failure: the stream must not go on recording.
  const absl::Status ended = GuardTorch("ending a recording", [&] {
    recording->End();
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(begun);
  RETURN_IF_ERROR(ended);
  call.inputs = std::move(copies);
  call.output = std::move(output);
  call.recording = std::move(recording);
  return absl::OkStatus();
}

}  // namespace image_variations
