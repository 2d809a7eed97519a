#include "pipeline/model/kept_memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <iterator>
#include <map>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "c10/core/Allocator.h"
#include "c10/core/CPUAllocator.h"
#include "c10/core/impl/alloc_cpu.h"

namespace image_variations {
namespace {

// What is smaller, malloc keeps anyway.
constexpr size_t kLarge = size_t{1} << 17;
// More than the activations of a step at 512x512. A decode there would use more, but seldom does.
constexpr size_t kMaxKeptBytes = size_t{384} << 20;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kCacheLine = 64;

// Blocks in the sizes 2^n * {4, 5, 6, 7} / 4, so that a block fits the next tensor of nearly its
// size. Thread-safe.
class KeptMemory final : public c10::Allocator {
 public:
  // LibTorch has one allocator, and tensors of static duration may outlive any order of
  // destruction.
  static KeptMemory& Instance() {
    static KeptMemory& memory = *new KeptMemory;
    return memory;
  }

  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes < kLarge) {
      void* const memory = c10::alloc_cpu(bytes);
      return {memory, memory, GiveBack, cpu};
    }
    void* const memory = Take(SizeClass(bytes));
    return {memory, memory, GiveBack, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return GiveBack; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static size_t SizeClass(size_t bytes) {
    const size_t quarter = std::bit_floor(bytes) / 4;
    return (bytes + quarter - 1) / quarter * quarter;
  }

  void* Take(size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    void* memory = nullptr;
    if (const auto kept = kept_.find(bytes); kept != kept_.end()) {
      memory = kept->second;
      kept_.erase(kept);
      kept_bytes_ -= bytes;
    } else {
      memory = TakeNew(bytes);
    }
    taken_.emplace(memory, bytes);
    return memory;
  }

  static void* TakeNew(size_t bytes) {
    const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    void* const memory =
        std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    TORCH_CHECK_WITH(OutOfMemoryError, memory != nullptr, "can't allocate memory: ", bytes,
                     " bytes");
    if (bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);  // advice: may be refused
    return memory;
  }

  static void GiveBack(void* memory) {
    if (!Instance().Keep(memory)) c10::free_cpu(memory);
  }

  // False: not one of the large ones.
  bool Keep(void* memory) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    const auto taken = taken_.find(memory);
    if (taken == taken_.end()) return false;
    kept_.emplace(taken->second, memory);
    kept_bytes_ += taken->second;
    taken_.erase(taken);
    while (kept_bytes_ > kMaxKeptBytes) {  // the largest are the ones of another size of picture
      const auto largest = std::prev(kept_.end());
      kept_bytes_ -= largest->first;
      std::free(largest->second);
      kept_.erase(largest);
    }
    return true;
  }

  absl::Mutex mutex_;
  std::unordered_map<void*, size_t> taken_ ABSL_GUARDED_BY(mutex_);
  std::multimap<size_t, void*> kept_ ABSL_GUARDED_BY(mutex_);
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

void KeepTensorMemory() { c10::SetCPUAllocator(&KeptMemory::Instance(), /*priority=*/1); }

}  // namespace image_variations
