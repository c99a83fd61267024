// A process-shared read-write lock of ours in a pthread_rwlock_t (shared_object.h).
//
// State, low half: readers (bits 0-27), the promoted mark (29), held by a writer (30), somebody sleeps (31);
// high half: the writer's kernel thread id. Who makes it free clears the mark of sleepers and wakes all. As
// in glibc readers come first, except in locks of the kind that prefers writers, where they wait for the
// writers that wait. Source: glibc nptl/pthread_rwlock_common.c for what is promised; the algorithm is
// simpler.
#pragma once

#include "shim/wire/shared_object.h"

namespace elsewhere::wire {

inline constexpr uint64_t kReadWriteMagic = 0xe15e4c57454c5345;
inline constexpr uint32_t kReadWritePrefersWriters = 2;  // PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP

struct ReadWriteLock {
  std::atomic<uint64_t> state;
  std::atomic<uint64_t> object;
  std::atomic<uint32_t> waiting_writers;
  std::atomic<uint32_t> owner_host;  // of the writer, as in shared_mutex.h
  uint32_t reserved;
  uint32_t shared;  // where glibc keeps it
  uint32_t kind;
  uint32_t reserved_too;
  uint64_t magic;
  uint64_t unused;
};
static_assert(sizeof(ReadWriteLock) == 56 && alignof(ReadWriteLock) == 8);

namespace read_write_detail {

inline constexpr uint32_t kReaders = (1u << 28) - 1;
inline constexpr uint32_t kMark = 1u << 29;
inline constexpr uint32_t kWriter = 1u << 30;
inline constexpr uint32_t kSleepers = 1u << 31;
inline constexpr uint32_t kNoHost = 0xffffffff;

inline bool IsOwn(const ReadWriteLock* lock, uint64_t state, const SharedThread& me) {
  return (shared_detail::Low(state) & kWriter) != 0 && shared_detail::High(state) == me.thread &&
         lock->owner_host.load(std::memory_order_relaxed) == me.host;
}

// Sleeps until it may have become free; 0, ETIMEDOUT or EINVAL.
inline int Sleep(ReadWriteLock* lock, uint64_t* state, const SharedDeadline& deadline) {
  using namespace shared_detail;
  if (!deadline.IsValid()) return EINVAL;
  if ((Low(*state) & kSleepers) == 0) {
    if (!lock->state.compare_exchange_strong(*state, *state | kSleepers)) return 0;
    *state |= kSleepers;
  }
  const long slept = FutexWait(&lock->state, Low(*state), deadline);
  *state = lock->state.load(std::memory_order_acquire);
  return slept == -ETIMEDOUT ? ETIMEDOUT : 0;
}

// Whoever slept because of what is over now looks again.
inline void WakeSleepers(ReadWriteLock* lock) {
  uint64_t state = lock->state.load(std::memory_order_acquire);
  do {
    if ((shared_detail::Low(state) & kSleepers) == 0) return;
  } while (!lock->state.compare_exchange_weak(state, state & ~uint64_t{kSleepers}));
  shared_detail::FutexWake(&lock->state, shared_detail::kEverybody);
}

}  // namespace read_write_detail

inline bool IsOurs(const ReadWriteLock* lock) {
  return lock->magic == kReadWriteMagic;
}
inline bool IsPromoted(const ReadWriteLock* lock) {
  return (lock->state.load(std::memory_order_acquire) & read_write_detail::kMark) != 0;
}

inline void ReadWriteInit(ReadWriteLock* lock, uint32_t kind) {
  lock->state.store(0, std::memory_order_relaxed);
  lock->object.store(0, std::memory_order_relaxed);
  lock->waiting_writers.store(0, std::memory_order_relaxed);
  lock->owner_host.store(read_write_detail::kNoHost, std::memory_order_relaxed);
  lock->shared = 1;
  lock->kind = kind;
  lock->unused = 0;
  lock->magic = kReadWriteMagic;
  std::atomic_thread_fence(std::memory_order_release);
}

inline int ReadLock(ReadWriteLock* lock, const SharedThread& me, Blocking blocking,
                    const SharedDeadline& deadline) {
  using namespace shared_detail;
  using namespace read_write_detail;
  uint64_t state = lock->state.load(std::memory_order_relaxed);
  for (;;) {
    const uint32_t low = Low(state);
    if ((low & kMark) != 0) return kPromoted;
    const bool behind_writers = lock->kind == kReadWritePrefersWriters && lock->waiting_writers.load() != 0;
    if ((low & kWriter) == 0 && !behind_writers) {
      if ((low & kReaders) == kReaders) return EAGAIN;
      if (lock->state.compare_exchange_weak(state, state + 1, std::memory_order_acquire)) return 0;
      continue;
    }
    if (blocking == Blocking::kTry) return EBUSY;
    if (IsOwn(lock, state, me)) return EDEADLK;
    // What it waits for may be over since it looked: then nobody would wake it.
    if ((low & kWriter) == 0) {
      if ((low & kSleepers) == 0 && !lock->state.compare_exchange_strong(state, state | kSleepers)) continue;
      state |= kSleepers;
      if (lock->waiting_writers.load() == 0) continue;
    }
    if (const int error = Sleep(lock, &state, deadline); error != 0) return error;
  }
}

inline int WriteLock(ReadWriteLock* lock, const SharedThread& me, Blocking blocking,
                     const SharedDeadline& deadline) {
  using namespace shared_detail;
  using namespace read_write_detail;
  uint64_t state = lock->state.load(std::memory_order_relaxed);
  bool waits = false;
  int result = 0;
  for (;;) {
    const uint32_t low = Low(state);
    if ((low & kMark) != 0) {
      result = kPromoted;
      break;
    }
    if ((low & (kWriter | kReaders)) == 0) {
      if (!lock->state.compare_exchange_weak(state, Join(low | kWriter, me.thread),
                                             std::memory_order_acquire))
        continue;
      lock->owner_host.store(me.host, std::memory_order_relaxed);
      break;
    }
    if (blocking == Blocking::kTry) return EBUSY;
    if (IsOwn(lock, state, me)) return EDEADLK;
    if (!waits) lock->waiting_writers.fetch_add(1);
    waits = true;
    if ((result = Sleep(lock, &state, deadline)) != 0) break;
  }
  if (waits) {
    lock->waiting_writers.fetch_sub(1);
    if (result != 0 && result != kPromoted) WakeSleepers(lock);
  }
  return result;
}

inline int ReadWriteUnlock(ReadWriteLock* lock) {
  using namespace shared_detail;
  using namespace read_write_detail;
  uint64_t state = lock->state.load(std::memory_order_relaxed);
  if ((Low(state) & (kWriter | kMark)) == kWriter) lock->owner_host.store(kNoHost, std::memory_order_relaxed);
  for (;;) {
    const uint32_t low = Low(state);
    if ((low & kMark) != 0) return kPromoted;
    if ((low & (kWriter | kReaders)) == 0) return EPERM;
    const bool free = (low & kWriter) != 0 || (low & kReaders) == 1;
    if (!lock->state.compare_exchange_weak(state, free ? 0 : state - 1, std::memory_order_release)) continue;
    if (free && (low & kSleepers) != 0) FutexWake(&lock->state, kEverybody);
    return 0;
  }
}

// EBUSY: it is held.
inline int ReadWriteDestroy(ReadWriteLock* lock) {
  using namespace read_write_detail;
  const auto low = shared_detail::Low(lock->state.load(std::memory_order_acquire));
  if ((low & kMark) != 0) return kPromoted;
  if ((low & (kWriter | kReaders)) != 0) return EBUSY;
  lock->magic = 0;
  lock->shared = 0;
  return 0;
}

inline bool ReadWritePromote(ReadWriteLock* lock, uint64_t object, SharedObjectState* taken) {
  using namespace shared_detail;
  using namespace read_write_detail;
  if (IsPromoted(lock)) return false;
  lock->object.store(object, std::memory_order_release);
  uint64_t state = lock->state.load(std::memory_order_acquire);
  while (!lock->state.compare_exchange_weak(state, kMark, std::memory_order_acq_rel)) {
  }
  taken->flags = lock->kind;
  taken->held = (Low(state) & kWriter) != 0;
  taken->owner = taken->held ? High(state) : 0;
  taken->count = Low(state) & kReaders;
  FutexWake(&lock->state, kEverybody);
  return true;
}

}  // namespace elsewhere::wire
