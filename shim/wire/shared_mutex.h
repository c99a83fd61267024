// A process-shared mutex of ours in a pthread_mutex_t (shared_object.h).
//
// State, low half: the owner's kernel thread id (bits 0-28), the promoted mark (29), and the two bits of the
// kernel's robust futexes, owner died (30) and waiters (31): a robust mutex that is held natively hangs in
// its owner's robust list, whose node is where glibc has it, and the kernel marks it when the owner dies. The
// promoted mark lies inside the kernel's mask of the thread id, so that it leaves promoted words alone. High
// half: how often the owner locked it again (bits 0-29), not recoverable (30), inconsistent (31). Both halves
// change together or, by the kernel, the low one alone.
//
// Thread ids of two hosts may be equal, and two hosts may map the same native object (a file with a path), so
// `owner_host` says whose it is: stored after the lock was taken and cleared before it is released, it equals
// the host of a thread only while a thread of that host holds the lock. Plain mutexes never ask who owns them
// and do without.
// Source: glibc nptl/pthread_mutex_lock.c; Linux Documentation/locking/robust-futex-ABI.rst.
#pragma once

#include "shim/wire/shared_object.h"

namespace elsewhere::wire {

inline constexpr uint32_t kMutexMagic = 0xe15e0080;  // bit 7: glibc's mark of process-shared mutexes
inline constexpr uint32_t kMutexMagicMask = 0xffff0080;
inline constexpr uint32_t kMutexSharedBit = 0x80;
// Flags of a mutex: type and robustness.
inline constexpr uint32_t kMutexType = 3;
inline constexpr uint32_t kMutexNormal = 0;
inline constexpr uint32_t kMutexRecursive = 1;
inline constexpr uint32_t kMutexErrorCheck = 2;
inline constexpr uint32_t kMutexRobust = 16;

struct Mutex {
  std::atomic<uint64_t> state;
  std::atomic<uint64_t> object;  // valid once promoted
  uint32_t kind;                 // kMutexMagic | flags
  std::atomic<uint32_t> owner_host;
  void* previous;  // of the owner's robust list; null while in none
  void* next;
};
static_assert(sizeof(Mutex) == 40 && alignof(Mutex) == 8);

namespace mutex_detail {

inline constexpr uint32_t kThread = 0x1fffffff;
inline constexpr uint32_t kMark = 1u << 29;
inline constexpr uint32_t kCount = 0x3fffffff;
inline constexpr uint32_t kNotRecoverable = 1u << 30;
inline constexpr uint32_t kInconsistent = 1u << 31;
inline constexpr uint32_t kNoHost = 0xffffffff;

// Whether anybody ever asks who owns it.
inline bool IsChecked(uint32_t kind) {
  return (kind & (kMutexType | kMutexRobust)) != 0;
}
inline bool IsOwn(const Mutex* mutex, uint64_t state, const SharedThread& me) {
  return (shared_detail::Low(state) & kThread) == me.thread &&
         mutex->owner_host.load(std::memory_order_relaxed) == me.host;
}

// Held by the caller already.
inline int LockAgain(Mutex* mutex, uint64_t* state, Blocking blocking, bool* decided) {
  using namespace shared_detail;
  *decided = true;
  const uint32_t type = mutex->kind & kMutexType;
  // Of a trylock, glibc says EDEADLK of robust ones only.
  const bool busy = blocking == Blocking::kTry && (mutex->kind & kMutexRobust) == 0;
  if (type == kMutexErrorCheck) return busy ? EBUSY : EDEADLK;
  if (type == kMutexRecursive) {
    if ((High(*state) & kCount) == kCount) return EAGAIN;
    if (mutex->state.compare_exchange_strong(*state, *state + Join(0, 1))) return 0;
  }
  *decided = false;
  return 0;
}

}  // namespace mutex_detail

inline bool IsOurs(const Mutex* mutex) {
  return (mutex->kind & kMutexMagicMask) == kMutexMagic;
}
// Ours, normal and not robust.
inline bool IsPlain(const Mutex* mutex) {
  return mutex->kind == (kMutexMagic | kMutexNormal);
}
inline bool IsPromoted(const Mutex* mutex) {
  return (mutex->state.load(std::memory_order_acquire) & mutex_detail::kMark) != 0;
}

inline void MutexInit(Mutex* mutex, uint32_t flags) {
  mutex->object.store(0, std::memory_order_relaxed);
  mutex->owner_host.store(mutex_detail::kNoHost, std::memory_order_relaxed);
  mutex->previous = nullptr;
  mutex->next = nullptr;
  mutex->state.store(0, std::memory_order_relaxed);
  mutex->kind = kMutexMagic | flags;
  std::atomic_thread_fence(std::memory_order_release);
}

// The usual case alone: a normal mutex that is not robust and is free, or has nobody waiting for it. False:
// nothing was done, and the functions below decide.
inline bool MutexLockAtOnce(Mutex* mutex, uint32_t thread) {
  uint64_t state = 0;
  return mutex->state.compare_exchange_strong(state, thread, std::memory_order_acquire,
                                              std::memory_order_relaxed);
}
inline bool MutexUnlockAtOnce(Mutex* mutex) {
  uint64_t state = mutex->state.load(std::memory_order_relaxed);
  return (state & ~uint64_t{mutex_detail::kThread}) == 0 &&
         mutex->state.compare_exchange_strong(state, 0, std::memory_order_release, std::memory_order_relaxed);
}

// Of a robust mutex the caller keeps its robust list, around this.
inline int MutexLock(Mutex* mutex, const SharedThread& me, Blocking blocking,
                     const SharedDeadline& deadline) {
  using namespace shared_detail;
  using namespace mutex_detail;
  const bool checked = IsChecked(mutex->kind);
  uint32_t waited = 0;
  uint64_t state = 0;
  for (;;) {
    const uint32_t low = Low(state);
    if ((low & kMark) != 0) return kPromoted;
    if ((High(state) & kNotRecoverable) != 0) return ENOTRECOVERABLE;
    if ((low & kThread) == 0) {
      const bool died = (low & FUTEX_OWNER_DIED) != 0;
      const uint64_t taken = Join(me.thread | waited | (low & FUTEX_WAITERS), died ? kInconsistent : 0);
      if (!mutex->state.compare_exchange_strong(state, taken, std::memory_order_acquire)) continue;
      if (checked) mutex->owner_host.store(me.host, std::memory_order_relaxed);
      return died ? EOWNERDEAD : 0;
    }
    if (checked && IsOwn(mutex, state, me)) {
      bool decided;
      const int result = LockAgain(mutex, &state, blocking, &decided);
      if (decided) return result;
      if ((mutex->kind & kMutexType) == kMutexRecursive) continue;
    }
    if (blocking == Blocking::kTry) return EBUSY;
    if (!deadline.IsValid()) return EINVAL;
    if ((low & FUTEX_WAITERS) == 0 && !mutex->state.compare_exchange_strong(state, state | FUTEX_WAITERS))
      continue;
    if (FutexWait(&mutex->state, low | FUTEX_WAITERS, deadline) == -ETIMEDOUT) return ETIMEDOUT;
    waited = FUTEX_WAITERS;  // others may sleep
    state = mutex->state.load(std::memory_order_acquire);
  }
}

// False: promoted, or not held by the caller as far as this is asked of mutexes of its kind.
inline bool MutexIsHeldBy(const Mutex* mutex, const SharedThread& me) {
  const uint64_t state = mutex->state.load(std::memory_order_acquire);
  return (state & mutex_detail::kMark) == 0 &&
         (!mutex_detail::IsChecked(mutex->kind) || mutex_detail::IsOwn(mutex, state, me));
}

// True: the unlock that comes will release it, and not only end one of several locks.
inline bool MutexIsLastLock(const Mutex* mutex) {
  return (shared_detail::High(mutex->state.load(std::memory_order_relaxed)) & mutex_detail::kCount) == 0;
}

inline int MutexUnlock(Mutex* mutex, const SharedThread& me) {
  using namespace shared_detail;
  using namespace mutex_detail;
  uint64_t state = mutex->state.load(std::memory_order_relaxed);
  const bool checked = IsChecked(mutex->kind);
  if (checked) {
    if ((Low(state) & kMark) != 0) return kPromoted;
    if (!IsOwn(mutex, state, me)) return EPERM;
    if ((High(state) & kCount) == 0) mutex->owner_host.store(kNoHost, std::memory_order_relaxed);
  }
  for (;;) {
    if ((Low(state) & kMark) != 0) return kPromoted;
    const bool again = (High(state) & kCount) != 0;
    const bool lost = (High(state) & kInconsistent) != 0;
    const uint64_t released = again ? state - Join(0, 1) : lost ? Join(0, kNotRecoverable) : 0;
    if (!mutex->state.compare_exchange_strong(state, released, std::memory_order_release)) continue;
    // Only the address is used from here on: who gets the lock may free the memory.
    if (!again && (Low(state) & FUTEX_WAITERS) != 0) FutexWake(&mutex->state, lost ? kEverybody : 1);
    return 0;
  }
}

inline int MutexConsistent(Mutex* mutex, const SharedThread& me) {
  using namespace shared_detail;
  using namespace mutex_detail;
  if ((mutex->kind & kMutexRobust) == 0) return EINVAL;
  uint64_t state = mutex->state.load(std::memory_order_acquire);
  do {
    if ((Low(state) & kMark) != 0) return kPromoted;
    if ((High(state) & kInconsistent) == 0 || !IsOwn(mutex, state, me)) return EINVAL;
  } while (!mutex->state.compare_exchange_weak(state, state & ~Join(0, kInconsistent)));
  return 0;
}

// EBUSY: it is held. Afterwards it is what glibc leaves of a destroyed mutex.
inline int MutexDestroy(Mutex* mutex) {
  const uint64_t state = mutex->state.load(std::memory_order_acquire);
  if ((state & mutex_detail::kMark) != 0) return kPromoted;
  if ((mutex->kind & kMutexRobust) == 0 && (state & mutex_detail::kThread) != 0) return EBUSY;
  mutex->kind = 0xffffffff;
  return 0;
}

// By agents, and by who initialised it. False: it was promoted before.
inline bool MutexPromote(Mutex* mutex, uint64_t object, SharedObjectState* taken) {
  using namespace shared_detail;
  using namespace mutex_detail;
  if (IsPromoted(mutex)) return false;
  mutex->object.store(object, std::memory_order_release);
  uint64_t state = mutex->state.load(std::memory_order_acquire);
  while (!mutex->state.compare_exchange_weak(state, kMark, std::memory_order_acq_rel)) {
  }
  taken->flags = mutex->kind & (kMutexType | kMutexRobust);
  taken->owner = Low(state) & kThread;
  taken->held = taken->owner != 0;
  taken->count = High(state) & kCount;
  taken->owner_died = (Low(state) & FUTEX_OWNER_DIED) != 0;
  taken->inconsistent = taken->held && (High(state) & kInconsistent) != 0;
  taken->not_recoverable = (High(state) & kNotRecoverable) != 0;
  FutexWake(&mutex->state, kEverybody);
  return true;
}

}  // namespace elsewhere::wire
