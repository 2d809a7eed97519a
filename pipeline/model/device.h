// What a GPU needs beside ATen: in device_cuda.cc where LibTorch's wheel has CUDA, else in
// device_cpu.cc, where there is nothing to do. Engine thread only.
#pragma once

#include <memory>
#include <string>

#include "ATen/core/Tensor.h"

namespace image_variations {

// In the driver's words, why no GPU can be used.
std::string WhyNoGpu();

// The device's own name, whose kernels decide the last bits of a picture; "" for the CPU.
std::string DeviceModel(const at::Device&);

// What this thread computes on `device` from now on goes through a stream of its own: the default
// one waits for all others, and cannot be recorded.
void UseOwnStream(const at::Device&);

// Through pinned memory, without waiting: what is computed next waits on the device.
at::Tensor ToDevice(const at::Tensor& host, const at::Device&);
// Through pinned memory; waits for the bytes.
at::Tensor ToHost(const at::Tensor&);

// The largest share of the device's memory, 0 to 1, that LibTorch may allocate: what would pass it
// fails as if there were no more. Without effect on the CPU.
void LimitMemory(const at::Device&, double share);

// Gives memory back that LibTorch keeps for the next allocation, after a failed one.
void ReleaseCachedMemory(const at::Device&);

// The kernels of a call between Begin and End, launched again as one by Replay: a CUDA graph. They
// read and write where they did when they were recorded.
class RecordedCall {
 public:
  virtual ~RecordedCall() = default;

  virtual void Begin() = 0;
  virtual void End() = 0;  // throws when something between cannot be recorded
  virtual void Replay() = 0;
};

// nullptr where calls cannot be recorded.
std::unique_ptr<RecordedCall> MakeRecordedCall(const at::Device&);

}  // namespace image_variations
