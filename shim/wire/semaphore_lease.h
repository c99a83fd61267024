// A promoted semaphore that is lent to one host (lease.h): a native semaphore that counts for all.
//
// What a process wrote to objects elsewhere before a post must leave the host before what others write behind
// their wait. So the cell says which process posted with output that may be unsent: whoever gets a token and
// is another process has the agent send that first (abi::Operation::kSemSettle), and so does the agent before
// the count goes home. A lock that one process alone takes, as a pipe's only writer does, costs nothing.
// `unsent`: the kernel pid (bits 0-31, 0: nobody), and a number that every such post changes (bits 32-63), so
// that a later one is not taken for settled. It is written before the post and read behind the wait. Behind
// it which descriptors the posters had written through (abi::WroteTo): what went through these must be in,
// not only sent, before the semaphore is another host's.
//
// While it is not lent here the cell says what this host knows of the count: home tells it with whatever it
// answers, and tells changes before whatever it sends next (runtime/ipc/semaphore_news.h). So it is the count
// after everything that the caller can know of, but for posts of this host that home has not counted: these
// are counted here as they begin, and as they are done (by the agent), and where the two differ nothing is
// known.
#pragma once

#include "shim/wire/lease.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::wire {

// More is not lent, and posts beyond it are the agent's.
inline constexpr uint32_t kMostLent = 1 << 29;

// The answer of a call about a semaphore that has just been lent: nothing was done, try again here.
inline constexpr int64_t kTryAgain = 1;

inline std::atomic<uint64_t>* UnsentOf(Semaphore* lease) {
  static_assert(sizeof(Semaphore) + 2 * sizeof(uint64_t) <= sizeof(abi::Cell));
  return reinterpret_cast<std::atomic<uint64_t>*>(lease + 1);
}
inline std::atomic<uint64_t>* WroteOf(Semaphore* lease) {
  return UnsentOf(lease) + 1;
}
// What is known (bits 32-63: the count + 1, 0: nothing) once so many posts have been done (bits 0-31).
inline std::atomic<uint64_t>* KnownOf(Semaphore* lease) {
  static_assert(sizeof(Semaphore) + 4 * sizeof(uint64_t) <= sizeof(abi::Cell));
  return UnsentOf(lease) + 2;
}
// Posts that processes of this host have begun to ask the agent for.
inline std::atomic<uint64_t>* BegunOf(Semaphore* lease) {
  return UnsentOf(lease) + 3;
}
// False: the agent has to be asked.
inline bool SemaphoreKnown(Semaphore* lease, int* value) {
  const uint64_t known = KnownOf(lease)->load(std::memory_order_acquire);
  const auto begun = static_cast<uint32_t>(BegunOf(lease)->load(std::memory_order_seq_cst));
  if (known >> 32 == 0 || begun != static_cast<uint32_t>(known)) return false;
  *value = static_cast<int>((known >> 32) - 1);
  return true;
}
inline int32_t UnsentBy(uint64_t unsent) {
  return static_cast<int32_t>(unsent);
}
// False: another process is named there.
inline bool NoteUnsent(Semaphore* lease, int32_t process, uint64_t wrote) {
  std::atomic<uint64_t>* unsent = UnsentOf(lease);
  uint64_t said = unsent->load(std::memory_order_relaxed);
  do {
    if (UnsentBy(said) != 0 && UnsentBy(said) != process) return false;
    WroteOf(lease)->fetch_or(wrote, std::memory_order_relaxed);
  } while (!unsent->compare_exchange_weak(said, ((said >> 32) + 1) << 32 | static_cast<uint32_t>(process),
                                          std::memory_order_release));
  return true;
}

// The rest by agents only.

// What was noted as `unsent`, through `wrote`, has been sent. A post that was noted meanwhile stays: it has
// changed the number, or finds it changed and says again what it had written through.
inline void SettleUnsent(Semaphore* lease, uint64_t unsent, uint64_t wrote) {
  WroteOf(lease)->fetch_and(~wrote, std::memory_order_relaxed);
  if (!UnsentOf(lease)->compare_exchange_strong(unsent, 0))
    WroteOf(lease)->fetch_or(wrote, std::memory_order_relaxed);
}

// False: the cell is another object's.
inline bool ClaimCell(Semaphore* cell, uint64_t object) {
  const uint64_t owner = cell->object.load(std::memory_order_relaxed);
  if (owner != 0) return owner == object;
  cell->magic = kSemaphoreMagic;
  cell->data.store(kSemaphorePromoted, std::memory_order_relaxed);
  for (std::atomic<uint64_t>* word : {UnsentOf(cell), WroteOf(cell), KnownOf(cell), BegunOf(cell)})
    word->store(0, std::memory_order_relaxed);
  cell->object.store(object, std::memory_order_release);
  return true;
}
inline void Know(Semaphore* cell, uint32_t known, uint32_t posts_done) {
  KnownOf(cell)->store(uint64_t{known} << 32 | posts_done, std::memory_order_seq_cst);
}

// False: the cell is another object's.
inline bool TakeLease(Semaphore* cell, uint64_t object, uint32_t count) {
  if (!ClaimCell(cell, object)) return false;
  Know(cell, 0, 0);
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
