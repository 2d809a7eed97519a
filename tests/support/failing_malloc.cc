#include "tests/support/failing_malloc.h"

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#define UNDERLYING(name) __interceptor_##name
#else
#define UNDERLYING(name) __libc_##name
#endif

extern "C" {
void* UNDERLYING(malloc)(size_t);
void* UNDERLYING(calloc)(size_t, size_t);
void* UNDERLYING(realloc)(void*, size_t);
void* UNDERLYING(memalign)(size_t, size_t);
void UNDERLYING(free)(void*);
}

namespace image_variations {
namespace {

thread_local bool is_counting = false;
thread_local int64_t fail_at_count = 0;
thread_local int64_t live_bytes = 0;
thread_local AllocationCounts counts;

// Whether the allocation that is asked for now shall fail.
bool Fails() {
  if (!is_counting) return false;
  if (++counts.made != fail_at_count) return false;
  counts.failed = true;
  errno = ENOMEM;
  return true;
}

// Adds what `memory` holds, or takes it off.
void CountBytes(void* memory, int sign) {
  live_bytes += sign * static_cast<int64_t>(malloc_usable_size(memory));
  counts.most_bytes = std::max(counts.most_bytes, live_bytes);
}

void* CountMade(void* memory) {
  if (is_counting && memory != nullptr) {
    ++counts.live;
    CountBytes(memory, 1);
  }
  return memory;
}

}  // namespace

AllocationCounts RunWithFailingMalloc(int64_t fail_at, const std::function<void()>& body) {
  counts = {};
  live_bytes = 0;
  fail_at_count = fail_at;
  is_counting = true;
  body();
  is_counting = false;
  return counts;
}

}  // namespace image_variations

extern "C" {

void* malloc(size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  return Fails() ? nullptr : CountMade(UNDERLYING(malloc)(size));
}

void* calloc(size_t number, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  return Fails() ? nullptr : CountMade(UNDERLYING(calloc)(number, size));
}

void* realloc(void* memory, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  if (Fails()) return nullptr;
  if (memory == nullptr) return CountMade(UNDERLYING(malloc)(size));
  if (is_counting) CountBytes(memory, -1);
  void* const moved = UNDERLYING(realloc)(memory, size);
  if (is_counting) CountBytes(moved == nullptr ? memory : moved, 1);
  return moved;
}

void* aligned_alloc(size_t alignment, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  return Fails() ? nullptr : CountMade(UNDERLYING(memalign)(alignment, size));
}

int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = aligned_alloc(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

void free(void* memory) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  if (is_counting && memory != nullptr) {
    --counts.live;
    CountBytes(memory, -1);
  }
  UNDERLYING(free)(memory);
}

}  // extern "C"

#ifdef __SANITIZE_ADDRESS__

// Its operator new does not call malloc.
void* operator new(size_t size) {
  if (void* const memory = malloc(size)) return memory;
  throw std::bad_alloc();
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return malloc(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return malloc(size); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

#endif
