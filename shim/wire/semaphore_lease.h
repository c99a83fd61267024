// A promoted semaphore that is lent to one host (lease.h): a native semaphore that counts for all.
#pragma once

#include "shim/wire/lease.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::wire {

// More is not lent, and posts beyond it are the agent's.
inline constexpr uint32_t kMostLent = 1 << 29;

// The answer of a call about a semaphore that has just been lent: nothing was done, try again here.
inline constexpr int64_t kTryAgain = 1;

// The rest by agents only.

// False: the cell is another object's.
inline bool TakeLease(Semaphore* cell, uint64_t object, uint32_t count) {
  const uint64_t owner = cell->object.load(std::memory_order_relaxed);
  if (owner != 0 && owner != object) return false;
  if (owner == 0) {
    cell->magic = kSemaphoreMagic;
    cell->data.store(kSemaphorePromoted, std::memory_order_relaxed);
    cell->object.store(object, std::memory_order_release);
  }
  // Who waited when it was taken back may still be on its way out: the number of waiters is theirs.
  uint64_t data = cell->data.load(std::memory_order_relaxed);
  while (!cell->data.compare_exchange_weak(data, (data & semaphore_detail::kWaiters) | count,
                                           std::memory_order_release, std::memory_order_relaxed)) {
  }
  return true;
}

// The count.
inline uint32_t EndLease(Semaphore* cell) {
  uint32_t count = 0;
  SemaphorePromote(cell, cell->object.load(std::memory_order_relaxed), &count);
  return count;
}

}  // namespace elsewhere::wire
