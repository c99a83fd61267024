// A process-shared semaphore in its native state: what sits in the program's sem_t, or in a cell of the table
// for a named one. Included by preload and agent; freestanding, lock-free, async-signal-safe, raw futex calls
// only.
//
// One 64-bit word holds everything that an operation decides by: the count (bits 0-30), the promoted mark
// (bit 31) and the number of waiters (bits 32-63). So a post is a single compare-exchange that learns whether
// somebody must be woken and never reads the semaphore again: its memory may be gone as soon as the count is
// visible (the rule of glibc's own sem_post; POSIX allows sem_destroy right after the last wait). Waiters
// sleep on the low half, which is 0 exactly when there is nothing to take and nothing to learn.
//
// Promotion is one compare-exchange that replaces the count by the mark and returns it, then
// wakes all. Who sees the mark goes to the agent with `object`. No token is lost or doubled: each sits either
// in the count that the exchange took, or in the hands of somebody whose own exchange came first.
//
// A waiter killed between being woken and taking its token would leave others asleep beside a count: whoever
// learns of the death of a process calls WakeAll on the semaphores that it may have waited for. A killed
// waiter also stays in the number of waiters, which costs posts a needless futex call and nothing else.
//
// The magic number sits where glibc never writes in a private sem_t, so that one comparison tells ours from
// glibc's. Hooks of sem_init(pshared = 0) and of sem_destroy must clear it: memory is reused.
// Source: POSIX sem_wait, sem_post; glibc nptl/sem_waitcommon.c; futex(2).
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <time.h>

#include <atomic>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::wire {

inline constexpr uint64_t kSemaphoreMagic = 0x454c53454d415048;
inline constexpr uint32_t kSemaphoreMaximum = 0x7fffffff;  // SEM_VALUE_MAX
inline constexpr uint32_t kSemaphorePromoted = 0x80000000;
// In the name of an object: its count may have been large when it was promoted, so posts may overflow.
inline constexpr uint64_t kSemaphoreLarge = uint64_t{1} << 47;

struct Semaphore {
  std::atomic<uint64_t> data;
  std::atomic<uint64_t> object;  // at the broker; not 0, valid once promoted
  uint64_t magic;
  uint64_t reserved;
};
static_assert(sizeof(Semaphore) == 32 && alignof(Semaphore) == 8);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

enum class SemaphoreOutcome {
  kDone,
  kWouldBlock,   // EAGAIN
  kInterrupted,  // EINTR
  kTimedOut,     // ETIMEDOUT
  kInvalid,      // EINVAL: the deadline's nanoseconds
  kOverflow,     // EOVERFLOW
  kPromoted,     // nothing was done: ask the agent
};

namespace semaphore_detail {

inline constexpr uint64_t kOneWaiter = uint64_t{1} << 32;
inline constexpr uint64_t kWaiters = ~uint64_t{0} << 32;

inline uint32_t Low(uint64_t data) {
  return static_cast<uint32_t>(data);
}
inline uint32_t* FutexWord(const Semaphore* semaphore) {  // little-endian
  return reinterpret_cast<uint32_t*>(const_cast<std::atomic<uint64_t>*>(&semaphore->data));
}
inline void Wake(const Semaphore* semaphore, int count) {
  raw::Syscall(SYS_futex, raw::Address(FutexWord(semaphore)), FUTEX_WAKE, count);
}

}  // namespace semaphore_detail

inline bool IsOurs(const Semaphore* semaphore) {
  return semaphore->magic == kSemaphoreMagic;
}
inline bool IsPromoted(const Semaphore* semaphore) {
  return (semaphore->data.load(std::memory_order_acquire) & kSemaphorePromoted) != 0;
}

// EINVAL (false) beyond kSemaphoreMaximum.
inline bool SemaphoreInit(Semaphore* semaphore, uint32_t value) {
  if (value > kSemaphoreMaximum) return false;
  semaphore->object.store(0, std::memory_order_relaxed);
  semaphore->reserved = 0;
  semaphore->data.store(value, std::memory_order_relaxed);
  semaphore->magic = kSemaphoreMagic;
  std::atomic_thread_fence(std::memory_order_release);
  return true;
}

// The usual case alone: there is a token, or nobody waits for one. False: nothing was done, and the functions
// below decide.
inline bool SemaphoreTakeAtOnce(Semaphore* semaphore) {
  uint64_t data = semaphore->data.load(std::memory_order_relaxed);
  const uint32_t low = semaphore_detail::Low(data);
  return low != 0 && (low & kSemaphorePromoted) == 0 &&
         semaphore->data.compare_exchange_strong(data, data - 1, std::memory_order_acquire,
                                                 std::memory_order_relaxed);
}
inline bool SemaphorePostAtOnce(Semaphore* semaphore) {
  uint64_t data = semaphore->data.load(std::memory_order_relaxed);
  return data < kSemaphoreMaximum &&
         semaphore->data.compare_exchange_strong(data, data + 1, std::memory_order_release,
                                                 std::memory_order_relaxed);
}

inline SemaphoreOutcome SemaphoreTryWait(Semaphore* semaphore) {
  uint64_t data = semaphore->data.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t low = semaphore_detail::Low(data);
    if ((low & kSemaphorePromoted) != 0) return SemaphoreOutcome::kPromoted;
    if (low == 0) return SemaphoreOutcome::kWouldBlock;
    if (semaphore->data.compare_exchange_weak(data, data - 1, std::memory_order_acquire,
                                              std::memory_order_acquire))
      return SemaphoreOutcome::kDone;
  }
}

inline SemaphoreOutcome SemaphorePost(Semaphore* semaphore) {
  uint64_t data = semaphore->data.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t low = semaphore_detail::Low(data);
    if ((low & kSemaphorePromoted) != 0) return SemaphoreOutcome::kPromoted;
    if (low == kSemaphoreMaximum) return SemaphoreOutcome::kOverflow;
    if (semaphore->data.compare_exchange_weak(data, data + 1, std::memory_order_release,
                                              std::memory_order_acquire))
      break;
  }
  // Only the address is used from here on.
  if ((data & semaphore_detail::kWaiters) != 0) semaphore_detail::Wake(semaphore, 1);
  return SemaphoreOutcome::kDone;
}

// Blocks. `deadline` (absolute, by `clock`: CLOCK_REALTIME or CLOCK_MONOTONIC) may be null: without end.
// Interrupted as the kernel interrupts a futex: not by handlers installed with SA_RESTART.
inline SemaphoreOutcome SemaphoreWait(Semaphore* semaphore, const timespec* deadline = nullptr,
                                      clockid_t clock = CLOCK_REALTIME) {
  using namespace semaphore_detail;
  if (deadline != nullptr && (deadline->tv_nsec < 0 || deadline->tv_nsec >= 1'000'000'000))
    return SemaphoreOutcome::kInvalid;
  const SemaphoreOutcome fast = SemaphoreTryWait(semaphore);
  if (fast != SemaphoreOutcome::kWouldBlock) return fast;
  if (deadline != nullptr && deadline->tv_sec < 0) return SemaphoreOutcome::kTimedOut;

  const int operation = FUTEX_WAIT_BITSET | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
  uint64_t data = semaphore->data.fetch_add(kOneWaiter, std::memory_order_acq_rel) + kOneWaiter;
  SemaphoreOutcome outcome = SemaphoreOutcome::kPromoted;
  while ((Low(data) & kSemaphorePromoted) == 0) {
    if (Low(data) != 0) {
      if (semaphore->data.compare_exchange_weak(data, data - 1 - kOneWaiter, std::memory_order_acquire,
                                                std::memory_order_acquire))
        return SemaphoreOutcome::kDone;
      continue;
    }
    const long result = raw::Syscall(SYS_futex, raw::Address(FutexWord(semaphore)), operation, 0,
                                     raw::Address(deadline), 0, FUTEX_BITSET_MATCH_ANY);
    if (result == -EINTR || result == -ETIMEDOUT) {
      outcome = result == -EINTR ? SemaphoreOutcome::kInterrupted : SemaphoreOutcome::kTimedOut;
      break;
    }
    data = semaphore->data.load(std::memory_order_acquire);
  }
  semaphore->data.fetch_sub(kOneWaiter, std::memory_order_acq_rel);
  return outcome;
}

// False: promoted, ask the agent. Waiters count as zero, as on Linux.
inline bool SemaphoreGetValue(const Semaphore* semaphore, int* value) {
  const uint32_t low = semaphore_detail::Low(semaphore->data.load(std::memory_order_acquire));
  if ((low & kSemaphorePromoted) != 0) return false;
  *value = static_cast<int>(low);
  return true;
}

// See above; harmless at any time.
inline void SemaphoreWakeAll(const Semaphore* semaphore) {
  semaphore_detail::Wake(semaphore, 0x7fffffff);
}

// By agents only. True: `*count` tokens now belong to the broker's object. False: it was promoted before, by
// whoever wrote semaphore->object.
inline bool SemaphorePromote(Semaphore* semaphore, uint64_t object, uint32_t* count) {
  using namespace semaphore_detail;
  uint64_t none = 0;
  if (!semaphore->object.compare_exchange_strong(none, object, std::memory_order_acq_rel) && none != object)
    return false;
  uint64_t data = semaphore->data.load(std::memory_order_acquire);
  do {
    if ((Low(data) & kSemaphorePromoted) != 0) return false;
  } while (!semaphore->data.compare_exchange_weak(data, (data & kWaiters) | kSemaphorePromoted,
                                                  std::memory_order_acq_rel, std::memory_order_acquire));
  *count = Low(data);
  SemaphoreWakeAll(semaphore);
  return true;
}

}  // namespace elsewhere::wire
