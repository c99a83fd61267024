// Promoted mutexes, condition variables, read-write locks and spin locks that are lent to one host (lease.h):
// native ones, of which the operations of shared_mutex.h and its like are all that its processes need. Not
// robust mutexes, whose owners' deaths home must hear of.
#pragma once

#include "shim/wire/lease.h"
#include "shim/wire/shared_condition.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::wire {

// Distinguishes their names from those of semaphores.
inline constexpr uint64_t kSharedName = uint64_t{1} << 63;

// Answers of abi::Operation::kSharedAct beside errno values.
inline constexpr int kNotDone = 1001;   // it has just been lent to this host, or taken back: try again
inline constexpr int kLockHere = 1002;  // kWait is over, its mutex is lent: the caller locks it
inline constexpr int kLockHereTimedOut = 1003;

// A spin lock's own bytes have no room for a name.
struct LentSpinLock {
  SpinLock lock;
  uint32_t reserved;
  std::atomic<uint64_t> object;
};

// The object's number, by an object or its lease.
template <class Object>
inline uint64_t NumberOf(const Object* object) {
  return object->object.load(std::memory_order_acquire) & ~kSharedName;
}

// The rest by agents only. False: the cell is another object's.

namespace lease_detail {
template <class Object>
inline bool IsFor(const Object* cell, uint64_t number) {
  const uint64_t owner = cell->object.load(std::memory_order_relaxed);
  return owner == 0 || owner == (number | kSharedName);
}
}  // namespace lease_detail

inline bool TakeLease(Mutex* cell, uint64_t number, const SharedObjectState& state, uint32_t host) {
  using namespace mutex_detail;
  if (!lease_detail::IsFor(cell, number)) return false;
  if (cell->object.load(std::memory_order_relaxed) == 0) {
    cell->previous = cell->next = nullptr;
    cell->state.store(kMark, std::memory_order_relaxed);
    cell->kind = kMutexMagic | state.flags;
    cell->object.store(number | kSharedName, std::memory_order_release);
  }
  const bool owned = state.held && IsChecked(state.flags);
  cell->owner_host.store(owned ? host : kNoHost, std::memory_order_relaxed);
  // Nobody changes a marked word. Who waited at home may come and sleep here.
  const uint32_t low = state.held ? state.owner | FUTEX_WAITERS : 0;
  cell->state.store(shared_detail::Join(low, state.count), std::memory_order_release);
  return true;
}

inline bool TakeLease(Condition* cell, uint64_t number, const SharedObjectState& state, uint32_t) {
  if (!lease_detail::IsFor(cell, number)) return false;
  if (cell->object.load(std::memory_order_relaxed) == 0) {
    cell->waiters.store(0, std::memory_order_relaxed);
    cell->sequence.store(condition_detail::kMark, std::memory_order_relaxed);
    cell->flags = kConditionShared;
    cell->magic.store(kConditionMagic, std::memory_order_relaxed);
    cell->object.store(number | kSharedName, std::memory_order_release);
  }
  cell->sequence.store(state.count & ~condition_detail::kMark, std::memory_order_release);
  return true;
}

inline bool TakeLease(ReadWriteLock* cell, uint64_t number, const SharedObjectState& state, uint32_t host) {
  using namespace read_write_detail;
  if (!lease_detail::IsFor(cell, number)) return false;
  if (cell->object.load(std::memory_order_relaxed) == 0) {
    cell->state.store(kMark, std::memory_order_relaxed);
    // Not again: writers that waited during an earlier lease may still have to leave.
    cell->waiting_writers.store(0, std::memory_order_relaxed);
    cell->shared = 1;
    cell->kind = state.flags;
    cell->magic = kReadWriteMagic;
    cell->object.store(number | kSharedName, std::memory_order_release);
  }
  cell->owner_host.store(state.held ? host : kNoHost, std::memory_order_relaxed);
  cell->state.store(state.held ? shared_detail::Join(kWriter, state.owner) : state.count,
                    std::memory_order_release);
  return true;
}

inline bool TakeLease(LentSpinLock* cell, uint64_t number, const SharedObjectState& state, uint32_t) {
  using namespace spin_detail;
  if (!lease_detail::IsFor(cell, number)) return false;
  if (cell->object.load(std::memory_order_relaxed) == 0) {
    cell->lock.word.store(kSpinMagic | kMark, std::memory_order_relaxed);
    cell->object.store(number | kSharedName, std::memory_order_release);
  }
  cell->lock.word.store(kSpinMagic | (state.held ? kLocked : 0), std::memory_order_release);
  return true;
}

inline void EndLease(Mutex* cell, SharedObjectState* state) {
  MutexPromote(cell, cell->object.load(std::memory_order_relaxed), state);
}
inline void EndLease(Condition* cell, SharedObjectState* state) {
  ConditionPromote(cell, cell->object.load(std::memory_order_relaxed), state);
}
inline void EndLease(ReadWriteLock* cell, SharedObjectState* state) {
  ReadWritePromote(cell, cell->object.load(std::memory_order_relaxed), state);
}
inline void EndLease(LentSpinLock* cell, SharedObjectState* state) {
  SpinPromote(&cell->lock, 0, state);
}

}  // namespace elsewhere::wire
