// A process-shared spin lock of ours in a pthread_spinlock_t (shared_object.h): four bytes, so the magic
// number has one. glibc's own are never above 1. Promoted, the word holds the object's number, which is why
// spin locks have numbers of their own, below kSpinLocks.
#pragma once

#include "shim/wire/shared_object.h"

namespace elsewhere::wire {

struct SpinLock {
  std::atomic<uint32_t> word;
};
static_assert(sizeof(SpinLock) == 4);

inline constexpr uint32_t kSpinMagic = 0x45000000;
inline constexpr uint32_t kSpinMagicMask = 0xff000000;
inline constexpr uint32_t kSpinLocks = 1 << 23;

namespace spin_detail {
inline constexpr uint32_t kMark = 1 << 23;
inline constexpr uint32_t kLocked = 1;
inline constexpr int kTurnsBeforeYield = 200;
}  // namespace spin_detail

inline bool IsOurs(const SpinLock* lock) {
  return (lock->word.load(std::memory_order_relaxed) & kSpinMagicMask) == kSpinMagic;
}
inline bool IsPromoted(const SpinLock* lock) {
  return (lock->word.load(std::memory_order_acquire) & spin_detail::kMark) != 0;
}
inline uint64_t ObjectOf(const SpinLock* lock) {
  return lock->word.load(std::memory_order_relaxed) & (kSpinLocks - 1);
}

inline void SpinInit(SpinLock* lock) {
  lock->word.store(kSpinMagic, std::memory_order_release);
}

inline int SpinLockNow(SpinLock* lock, Blocking blocking) {
  using namespace spin_detail;
  for (int turn = 1;; ++turn) {
    uint32_t word = lock->word.load(std::memory_order_relaxed);
    if ((word & kMark) != 0) return kPromoted;
    if (word == kSpinMagic) {
      if (lock->word.compare_exchange_strong(word, kSpinMagic | kLocked, std::memory_order_acquire)) return 0;
      continue;
    }
    if (blocking == Blocking::kTry) return EBUSY;
    // The holder may need this processor.
    if (turn % kTurnsBeforeYield == 0) raw::Syscall(SYS_sched_yield);
    __builtin_ia32_pause();
  }
}

inline int SpinUnlock(SpinLock* lock) {
  uint32_t word = kSpinMagic | spin_detail::kLocked;
  while (!lock->word.compare_exchange_strong(word, kSpinMagic, std::memory_order_release)) {
    if ((word & spin_detail::kMark) != 0) return kPromoted;
    if (word == kSpinMagic) return 0;
  }
  return 0;
}

inline int SpinDestroy(SpinLock* lock) {
  if (IsPromoted(lock)) return kPromoted;
  lock->word.store(0, std::memory_order_relaxed);
  return 0;
}

inline bool SpinPromote(SpinLock* lock, uint64_t object, SharedObjectState* taken) {
  using namespace spin_detail;
  uint32_t word = lock->word.load(std::memory_order_acquire);
  do {
    if ((word & kMark) != 0) return false;
  } while (!lock->word.compare_exchange_weak(word, kSpinMagic | kMark | static_cast<uint32_t>(object)));
  taken->held = (word & kLocked) != 0;
  return true;
}

}  // namespace elsewhere::wire
