// Large blocks of memory in one range of addresses.
#pragma once

#include <cstddef>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace image_variations {

// A block is taken at the lowest address that has room for it and lies beside its neighbours, free
// ones become one: blocks of changing sizes share memory, which blocks that are kept by their size
// do not, and what seldom is needed lies highest. Memory that was given back stays resident, as far
// as `most_kept` bytes; above that the highest goes back to the system. Thread-safe.
class TensorHeap {
 public:
  static constexpr size_t kAlignment = 64;

  // Reserves as many addresses as the machine has bytes of memory; takes no memory yet.
  explicit TensorHeap(size_t most_kept);
  ~TensorHeap();
  TensorHeap(const TensorHeap&) = delete;
  TensorHeap& operator=(const TensorHeap&) = delete;

  // Aligned to kAlignment, of any content, to be given back. nullptr: no room, or the system
  // refuses. Throws std::bad_alloc when there is no memory to remember it; then nothing is taken.
  void* Take(size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // False: not a block of this heap. Takes no memory, so it cannot fail in a destructor.
  bool GiveBack(void* block) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of what was given back, in bytes: what may be resident, but for less than a huge page a block.
  size_t kept() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct FreeBlock {
    size_t size = 0;
    size_t resident = 0;  // this many at its beginning may be
  };
  using FreeBlocks = std::map<char*, FreeBlock>;

  bool MakeWritable(const char* end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JoinNext(FreeBlocks::iterator block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseHighest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_kept_;
  size_t reserved_ = 0;
  char* begin_ = nullptr;
  mutable absl::Mutex mutex_;
  char* writable_end_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // By address; neighbours in `free_` do not touch. A taken block is all resident.
  FreeBlocks free_ ABSL_GUARDED_BY(mutex_);
  FreeBlocks taken_ ABSL_GUARDED_BY(mutex_);
  size_t kept_ ABSL_GUARDED_BY(mutex_) = 0;  // the sum of free_'s resident
};

}  // namespace image_variations
