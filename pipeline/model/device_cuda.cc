#include "ATen/Context.h"
#include "ATen/cuda/CUDAContext.h"
#include "ATen/cuda/CUDAGraph.h"
#include "absl/strings/str_cat.h"
#include "c10/cuda/CUDACachingAllocator.h"
#include "c10/cuda/CUDAFunctions.h"
#include "c10/cuda/CUDAStream.h"
#include "pipeline/model/device.h"

namespace image_variations {
namespace {

class CudaGraphCall final : public RecordedCall {
 public:
  // Calls never run at the same time, and what they return is copied: they share their memory.
  explicit CudaGraphCall(at::MempoolId_t pool) : pool_(pool) {}

  // Other threads may allocate pinned memory meanwhile, which "global" would not let them.
  void Begin() override { graph_.capture_begin(pool_, cudaStreamCaptureModeThreadLocal); }
  void End() override { graph_.capture_end(); }
  void Replay() override { graph_.replay(); }

 private:
  const at::MempoolId_t pool_;
  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::string WhyNoGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return absl::StrCat("the driver shows ", count);
  cudaGetLastError();  // or the next call of LibTorch would find it
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return "there is no NVIDIA driver";  // CUDA's own words are of one that is too old
  }
  return absl::StrCat(cudaGetErrorString(error), " (CUDA error ", static_cast<int>(error), ")");
}

std::string DeviceModel(const at::Device& device) {
  if (!device.is_cuda()) return "";
  const cudaDeviceProp* model = at::cuda::getDeviceProperties(device.index());
  return absl::StrCat(model->name, " sm_", model->major, model->minor);
}

void UseOwnStream(const at::Device& device) {
  if (!device.is_cuda()) return;
  c10::cuda::set_device(device.index());
  c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(true, device.index()));
}

at::Tensor ToDevice(const at::Tensor& host, const at::Device& device) {
  if (!device.is_cuda()) return host;
  return host.pin_memory().to(device, host.scalar_type(), /*non_blocking=*/true);
}

at::Tensor ToHost(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return tensor;
  at::Tensor host = tensor.to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/true);
  c10::cuda::getCurrentCUDAStream(tensor.device().index()).synchronize();
  return host;
}

void LimitMemory(const at::Device& device, double share) {
  if (!device.is_cuda() || share >= 1) return;
  at::globalContext().lazyInitDevice(at::kCUDA);  // makes the allocator
  c10::cuda::CUDACachingAllocator::setMemoryFraction(share, device.index());
}

void ReleaseCachedMemory(const at::Device& device) {
  if (device.is_cuda()) c10::cuda::CUDACachingAllocator::emptyCache();
}

std::unique_ptr<RecordedCall> MakeRecordedCall(const at::Device& device) {
  if (!device.is_cuda()) return nullptr;
  thread_local const at::MempoolId_t pool = at::cuda::graph_pool_handle();
  return std::make_unique<CudaGraphCall>(pool);
}

}  // namespace image_variations
