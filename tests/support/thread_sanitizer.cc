// Lets ThreadSanitizer see through libraries that the distribution builds without it; linked into
// every test of the tsan preset. absl::Mutex: our own calls of it are wrapped (ld --wrap) and tell
// what they order. gRPC, OpenSSL and civetweb order by means that cannot be seen: a race with one
// of their threads is not reported.
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

extern "C" {

void __tsan_acquire(void* address);
void __tsan_release(void* address);

const char* __tsan_default_suppressions() {
  return "race:grpc::\n"
         "race:libgrpc\n"
         "race:libgpr\n"
         "race:libprometheus-cpp\n"
         "race:libcivetweb\n"
         "race:libcrypto\n"
         "race:libssl\n"
         "race:libupb\n"
         "race:absl::*::Condition\n"  // is evaluated by whoever unlocks, on the waiter's stack
         "race:libabsl_\n"
         "mutex:libgrpc\n"
         "deadlock:libgrpc\n";
}

using absl::Condition;
using absl::Mutex;

// Before a wait and an unlock: what this thread did becomes visible; after a lock: what others did.
// The acquire before the unlock is for the conditions of waiters, which the unlock evaluates.
#define IV_WRAP(symbol) __wrap_##symbol
#define IV_REAL(symbol) __real_##symbol

void IV_REAL(_ZN4absl7debian35Mutex4LockEv)(Mutex*);
void IV_WRAP(_ZN4absl7debian35Mutex4LockEv)(Mutex* mutex) {
  IV_REAL(_ZN4absl7debian35Mutex4LockEv)(mutex);
  __tsan_acquire(mutex);
}

void IV_REAL(_ZN4absl7debian35Mutex6UnlockEv)(Mutex*);
void IV_WRAP(_ZN4absl7debian35Mutex6UnlockEv)(Mutex* mutex) {
  __tsan_acquire(mutex);
  __tsan_release(mutex);
  IV_REAL(_ZN4absl7debian35Mutex6UnlockEv)(mutex);
}

void IV_REAL(_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE)(Mutex*, const Condition&);
void IV_WRAP(_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE)(Mutex* mutex,
                                                                const Condition& condition) {
  __tsan_release(mutex);
  IV_REAL(_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE)(mutex, condition);
  __tsan_acquire(mutex);
}

void IV_REAL(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE)(Mutex*, const Condition&);
void IV_WRAP(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE)(Mutex* mutex,
                                                             const Condition& condition) {
  __tsan_release(mutex);
  IV_REAL(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE)(mutex, condition);
  __tsan_acquire(mutex);
}

bool IV_REAL(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)(
    Mutex*, const Condition&, absl::Duration);
bool IV_WRAP(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)(
    Mutex* mutex, const Condition& condition, absl::Duration timeout) {
  __tsan_release(mutex);
  const bool met =
      IV_REAL(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)(
          mutex, condition, timeout);
  __tsan_acquire(mutex);
  return met;
}

void IV_REAL(_ZN4absl7debian312Notification6NotifyEv)(void*);
void IV_WRAP(_ZN4absl7debian312Notification6NotifyEv)(void* notification) {
  __tsan_release(notification);
  IV_REAL(_ZN4absl7debian312Notification6NotifyEv)(notification);
}

void IV_REAL(_ZNK4absl7debian312Notification19WaitForNotificationEv)(void*);
void IV_WRAP(_ZNK4absl7debian312Notification19WaitForNotificationEv)(void* notification) {
  IV_REAL(_ZNK4absl7debian312Notification19WaitForNotificationEv)(notification);
  __tsan_acquire(notification);
}

}  // extern "C"
