#include "pipeline/model/kept_memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

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

  // Takes what its giving back will need first: that happens in destructors, which cannot fail.
  void* Take(size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    void*& first = kept_[bytes];
    std::map<void*, size_t> record = {{nullptr, bytes}};
    void* const memory = first == nullptr ? TakeNew(bytes) : first;
    if (first != nullptr) {
      first = NextOf(memory);
      kept_bytes_ -= bytes;
    }
    auto node = record.extract(record.begin());
    node.key() = memory;
    taken_.insert(std::move(node));
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
    void*& first = kept_.find(taken->second)->second;
    std::memcpy(memory, &first, sizeof first);
    first = memory;
    kept_bytes_ += taken->second;
    taken_.erase(taken);
    // The largest are the ones of another size of picture.
    for (auto size = kept_.rbegin(); kept_bytes_ > kMaxKeptBytes; ++size) {
      while (size->second != nullptr && kept_bytes_ > kMaxKeptBytes) {
        std::free(std::exchange(size->second, NextOf(size->second)));
        kept_bytes_ -= size->first;
      }
    }
    return true;
  }

  // A block that is kept begins with the address of the next one of its size.
  static void* NextOf(const void* memory) {
    void* next = nullptr;
    std::memcpy(&next, memory, sizeof next);
    return next;
  }

  absl::Mutex mutex_;
  std::map<void*, size_t> taken_ ABSL_GUARDED_BY(mutex_);
  std::map<size_t, void*> kept_ ABSL_GUARDED_BY(mutex_);  // the first of each size
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

void KeepTensorMemory() { c10::SetCPUAllocator(&KeptMemory::Instance(), /*priority=*/1); }

}  // namespace image_variations
