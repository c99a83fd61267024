// Process-shared pthread objects: what every kind has in common. The kinds are in shared_mutex.h,
// shared_condition.h, shared_read_write_lock.h, shared_barrier.h and shared_spin_lock.h; included by preload
// and agent; freestanding, lock-free, raw futex calls only.
//
// An object of ours sits in the bytes of libc's own type, in memory that processes share. It starts native: a
// word that the hooks change by compare-exchange and sleep on, never inside libc. Promotion is one
// compare-exchange that takes the state out of the word and leaves a mark, then wakes all: who sees the mark
// asks the agent, with the number in `object`. What was held stays held: the state goes to home's arbiter
// (runtime/ipc/shared_object_arbiter.h), in which every later operation of every host meets.
//
// Which objects are ours is told by a magic number in a field whose libc value can never be that. The same
// field says of libc's own objects whether they are process-shared, so that private ones cost one comparison.
// All of this holds for the layouts of x86-64 glibc, which are part of its binary interface.
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <time.h>

#include <atomic>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::wire {

enum class SharedKind : uint32_t {
  kMutex = 1,
  kCondition = 2,
  kReadWriteLock = 3,
  kBarrier = 4,
  kSpinLock = 5,
};

// Operations on native objects answer as pthread functions do, 0 or an errno value; or this:
inline constexpr int kPromoted = -2;  // nothing was done: ask the agent

// Who does it. Kernel thread ids are unique on one host only.
struct SharedThread {
  uint32_t host;
  uint32_t thread;
};

enum class Blocking { kTry, kWait };

// An absolute time; `time` may be null: without end.
struct SharedDeadline {
  const timespec* time = nullptr;
  clockid_t clock = CLOCK_REALTIME;
  bool IsValid() const { return time == nullptr || (time->tv_nsec >= 0 && time->tv_nsec < 1'000'000'000); }
};

// What promotion takes out of an object, and the arbiter goes on with.
struct SharedObjectState {
  uint32_t flags = 0;  // of the kind
  uint32_t owner = 0;  // kernel thread on the promoting host that holds it for itself; 0: nobody
  uint32_t count =
      0;              // mutex: further locks of the owner; lock: readers; condition: signals; barrier: needed
  bool held = false;  // by a thread alone
  bool owner_died = false;
  bool inconsistent = false;
  bool not_recoverable = false;
};

namespace shared_detail {

inline uint32_t Low(uint64_t state) {
  return static_cast<uint32_t>(state);
}
inline uint32_t High(uint64_t state) {
  return static_cast<uint32_t>(state >> 32);
}
inline uint64_t Join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

// Futexes are the low halves of 64-bit states, or words of their own. Little-endian.
template <class Word>
inline long FutexWait(const std::atomic<Word>* word, uint32_t expected, const SharedDeadline& deadline) {
  const int operation = FUTEX_WAIT_BITSET | (deadline.clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
  // The kernel refuses times before 1970, which are merely past.
  if (deadline.time != nullptr && deadline.time->tv_sec < 0) return -ETIMEDOUT;
  return raw::Syscall(SYS_futex, raw::Address(word), operation, expected, raw::Address(deadline.time), 0,
                      FUTEX_BITSET_MATCH_ANY);
}
template <class Word>
inline void FutexWake(const std::atomic<Word>* word, int count) {
  raw::Syscall(SYS_futex, raw::Address(word), FUTEX_WAKE, count);
}
inline constexpr int kEverybody = 0x7fffffff;

// Counts threads inside a call, so that destroying waits until the last has stopped using the memory.
inline constexpr uint32_t kDestroying = 0x80000000;
inline void Leave(std::atomic<uint32_t>* inside) {
  if (inside->fetch_sub(1, std::memory_order_acq_rel) == (kDestroying | 1)) FutexWake(inside, kEverybody);
}
inline void AwaitEmpty(std::atomic<uint32_t>* inside) {
  uint32_t seen = inside->fetch_or(kDestroying, std::memory_order_acq_rel) | kDestroying;
  while (seen != kDestroying) {
    FutexWait(inside, seen, {});
    seen = inside->load(std::memory_order_acquire);
  }
}

}  // namespace shared_detail
}  // namespace elsewhere::wire
