#include "pipeline/model/kept_memory.h"

#include "c10/core/Allocator.h"
#include "c10/core/CPUAllocator.h"
#include "c10/core/impl/alloc_cpu.h"
#include "pipeline/model/tensor_heap.h"

namespace image_variations {
namespace {

// What is smaller, malloc keeps anyway.
constexpr size_t kLarge = size_t{1} << 17;
// More than the activations of a step at 512x512. A decode there would use more, but seldom does.
constexpr size_t kMostKeptBytes = size_t{384} << 20;

class KeptMemory final : public c10::Allocator {
 public:
  // LibTorch has one allocator, and tensors of static duration may outlive any order of
  // destruction.
  static KeptMemory& Instance() {
    static KeptMemory& memory = *new KeptMemory;
    return memory;
  }

  c10::DataPtr allocate(size_t bytes) override {
    void* const memory = bytes < kLarge ? c10::alloc_cpu(bytes) : heap_.Take(bytes);
    TORCH_CHECK_WITH(OutOfMemoryError, memory != nullptr || bytes < kLarge,
                     "can't allocate memory: ", bytes, " bytes");
    return {memory, memory, GiveBack, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return GiveBack; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void GiveBack(void* memory) {
    if (!Instance().heap_.GiveBack(memory)) c10::free_cpu(memory);
  }

  TensorHeap heap_{kMostKeptBytes};
};

}  // namespace

void KeepTensorMemory() { c10::SetCPUAllocator(&KeptMemory::Instance(), /*priority=*/1); }

}  // namespace image_variations
