// A promoted semaphore that only one host uses is lent to that host: its count is then a native semaphore in
// a cell of the host's own table, found by the object's name, and its processes operate on that as if it had
// never been promoted. Home decides (runtime/ipc/semaphore_arbiter.h) and takes it back when another host
// asks: the cell's word is marked as promotion marks one, who waits goes to the agent, and the count goes
// home.
//
// A cell belongs to one object until that is destroyed, so an operation that comes late finds its own object
// or the mark, never another's count. Two objects whose cells coincide: the second is not lent.
#pragma once

#include "shim/wire/abi.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::wire {

inline constexpr uint32_t kLeaseCells = 4096;  // the last cells of the table
inline constexpr uint32_t kFirstLeaseCell = abi::kCellCount - kLeaseCells;
// More is not lent, and posts beyond it are the agent's.
inline constexpr uint32_t kMostLent = 1 << 29;

// The answer of a call about a semaphore that has just been lent: nothing was done, try again here.
inline constexpr int64_t kTryAgain = 1;

inline Semaphore* LeaseCell(abi::Table* table, uint64_t object) {
  const uint64_t place = kFirstLeaseCell + (object ^ object >> 48) % kLeaseCells;
  return reinterpret_cast<Semaphore*>(table->cells[place].word);
}

// nullptr: it was never lent to this host.
inline Semaphore* LeaseOf(abi::Table* table, uint64_t object) {
  if (table == nullptr || object == 0) return nullptr;
  Semaphore* cell = LeaseCell(table, object);
  return cell->object.load(std::memory_order_acquire) == object ? cell : nullptr;
}

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
