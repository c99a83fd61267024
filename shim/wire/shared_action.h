// What can be asked about a promoted process-shared pthread object: by the preload of its agent, by that of
// home's.
#pragma once

#include <cstdint>

namespace elsewhere::wire {

enum class SharedAction : uint32_t {
  // By processes. `argument` where none is named: 0.
  kDestroy = 1,  // EBUSY: held
  kLock = 2,     // mutex or spin lock; so are the next four
  kTryLock = 3,
  kUnlock = 4,
  kConsistent = 5,
  kReadLock = 8,
  kTryReadLock = 9,
  kWriteLock = 10,
  kTryWriteLock = 11,
  kReadWriteUnlock = 12,
  kSignal = 16,
  kBroadcast = 17,
  kWait = 18,         // argument: mutex. Unlocks it and waits in one step; answered when it is locked again
  kGetSequence = 19,  // value: changes with every signal
  kAwait = 20,        // argument: sequence. Waits for the next signal, not at all if there was one since
  kBarrierWait = 24,  // value: 1 for one of those who arrived
  // By agents.
  kMake = 32,       // argument: count, flags: SharedKind << 32 | flags. value: the new object
  kCancel = 33,     // argument: request. A wait that still waits is answered: ETIMEDOUT
  kAbandon = 34,    // likewise: ECANCELED, for a dead thread, which a kWait gives no mutex. flags: that mutex
  kReturn = 35,     // of the thread that died before it heard that it holds the object
  kOwnerDied = 36,  // the thread died; whatever robust mutexes it holds
  // The lease ends. thread: who holds it, argument: count. flags: as below
  kReturnLease = 37,
};

// In the flags of kReturnLease.
inline constexpr uint64_t kReturnedHeld = 1;
inline constexpr uint64_t kReturnedUntaken = 2;  // it could not be taken at all

}  // namespace elsewhere::wire
