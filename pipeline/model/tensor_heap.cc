#include "pipeline/model/tensor_heap.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

namespace image_variations {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// Writable memory grows by at least this much: a call of the system for each.
constexpr size_t kGrowth = size_t{64} << 20;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

char* NextHugePage(char* address) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return address + (RoundUp(value, kHugePage) - value);
}

char* HugePageOf(char* address) {
  return address - reinterpret_cast<uintptr_t>(address) % kHugePage;
}

}  // namespace

TensorHeap::TensorHeap(size_t most_kept) : most_kept_(most_kept) {
  const auto pages = static_cast<size_t>(std::max(sysconf(_SC_PHYS_PAGES), 1L));
  reserved_ = RoundUp(pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)), kGrowth);
  void* memory = MAP_FAILED;
  // `ulimit -v` may allow less.
  for (; memory == MAP_FAILED && reserved_ > 0; reserved_ /= 2) {
    memory = mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) break;
  }
  if (memory == MAP_FAILED) return;
  begin_ = writable_end_ = static_cast<char*>(memory);
  madvise(begin_, reserved_, MADV_HUGEPAGE);  // advice: may be refused
  free_[begin_] = {.size = reserved_};
}

TensorHeap::~TensorHeap() {
  if (begin_ != nullptr) munmap(begin_, reserved_);
}

void* TensorHeap::Take(size_t bytes) {
  const absl::MutexLock lock(&mutex_);
  if (bytes > reserved_) return nullptr;
  bytes = RoundUp(std::max(bytes, size_t{1}), kAlignment);
  const auto found = std::find_if(free_.begin(), free_.end(),
                                  [&](const auto& block) { return block.second.size >= bytes; });
  if (found == free_.end() || !MakeWritable(found->first + bytes)) return nullptr;
  char* const taken = found->first;
  taken_[taken] = {.size = bytes, .resident = bytes};  // the last that can fail
  auto block = free_.extract(found);
  const size_t from_kept = std::min(bytes, block.mapped().resident);
  kept_ -= from_kept;
  if (block.mapped().size > bytes) {
    block.key() += bytes;
    block.mapped().size -= bytes;
    block.mapped().resident -= from_kept;
    free_.insert(std::move(block));
  }
  return taken;
}

bool TensorHeap::GiveBack(void* block) {
  // Most of what is given back is small and malloc's: that needs no lock.
  const auto address = reinterpret_cast<uintptr_t>(block);
  if (address - reinterpret_cast<uintptr_t>(begin_) >= reserved_) return false;
  const absl::MutexLock lock(&mutex_);
  auto given = taken_.extract(static_cast<char*>(block));
  if (given.empty()) return false;
  kept_ += given.mapped().size;
  const auto place = free_.insert(std::move(given)).position;
  JoinNext(place);
  if (place != free_.begin()) JoinNext(std::prev(place));
  ReleaseHighest();
  return true;
}

size_t TensorHeap::kept() const {
  const absl::MutexLock lock(&mutex_);
  return kept_;
}

bool TensorHeap::MakeWritable(const char* end) {
  if (end <= writable_end_) return true;
  const auto left = static_cast<size_t>(begin_ + reserved_ - writable_end_);
  const size_t growth = std::min(RoundUp(static_cast<size_t>(end - writable_end_), kGrowth), left);
  if (mprotect(writable_end_, growth, PROT_READ | PROT_WRITE) != 0) return false;
  writable_end_ += growth;
  return true;
}

// If they touch. Only a beginning is known to be resident: what lies between two counts, too.
void TensorHeap::JoinNext(FreeBlocks::iterator block) {
  const auto next = std::next(block);
  FreeBlock& whole = block->second;
  if (next == free_.end() || block->first + whole.size != next->first) return;
  if (next->second.resident > 0) {
    kept_ += whole.size - whole.resident;
    whole.resident = whole.size + next->second.resident;
  }
  whole.size += next->second.size;
  free_.erase(next);
}

void TensorHeap::ReleaseHighest() {
  for (auto block = free_.rbegin(); kept_ > most_kept_ && block != free_.rend(); ++block) {
    auto& [begin, part] = *block;
    const size_t stays = part.resident - std::min(part.resident, kept_ - most_kept_);
    char* const released = NextHugePage(begin + stays);
    // Not the page that a taken block may share.
    char* const end = std::min(NextHugePage(begin + part.resident), HugePageOf(begin + part.size));
    if (released >= end) continue;
    madvise(released, static_cast<size_t>(end - released), MADV_DONTNEED);
    kept_ -= part.resident - static_cast<size_t>(released - begin);
    part.resident = static_cast<size_t>(released - begin);
  }
}

}  // namespace image_variations
