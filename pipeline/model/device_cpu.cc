#include "pipeline/model/device.h"

namespace image_variations {

std::string WhyNoGpu() { return "it is built without CUDA"; }

std::string DeviceModel(const at::Device&) { return ""; }

void UseOwnStream(const at::Device&) {}

at::Tensor ToDevice(const at::Tensor& host, const at::Device&) { return host; }

at::Tensor ToHost(const at::Tensor& tensor) { return tensor; }

void LimitMemory(const at::Device&, double) {}

void ReleaseCachedMemory(const at::Device&) {}

std::unique_ptr<RecordedCall> MakeRecordedCall(const at::Device&) { return nullptr; }

}  // namespace image_variations
