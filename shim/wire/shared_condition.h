// A process-shared condition variable of ours in a pthread_cond_t (shared_object.h).
//
// A signal changes `sequence` and wakes one sleeper; who waits read it before it unlocked the mutex, so that
// no signal in between is lost. Promotion sets the mark beside the sequence: who slept and finds its own
// number there was not signalled, and goes on waiting at the agent with that number.
//
// `flags` is where glibc counts waiters (from bit 3 up): a thread inside libc's pthread_cond_signal that
// comes too late sees none.
#pragma once

#include "shim/wire/shared_object.h"

namespace elsewhere::wire {

inline constexpr uint32_t kConditionMagic = 0xe15ec0d0;
inline constexpr uint32_t kConditionShared = 1;  // the same bits as glibc's
inline constexpr uint32_t kConditionMonotonic = 2;

struct Condition {
  std::atomic<uint32_t> sequence;
  std::atomic<uint32_t> waiters;
  std::atomic<uint64_t> object;
  uint64_t reserved[2];
  std::atomic<uint32_t> magic;
  uint32_t flags;
  uint64_t reserved_too;
};
static_assert(sizeof(Condition) == 48 && alignof(Condition) == 8);

namespace condition_detail {
inline constexpr uint32_t kMark = 0x80000000;
}  // namespace condition_detail

inline bool IsOurs(const Condition* condition) {
  return condition->magic.load(std::memory_order_relaxed) == kConditionMagic;
}
inline bool IsPromoted(const Condition* condition) {
  return (condition->sequence.load(std::memory_order_acquire) & condition_detail::kMark) != 0;
}

inline void ConditionInit(Condition* condition, uint32_t flags) {
  condition->sequence.store(0, std::memory_order_relaxed);
  condition->waiters.store(0, std::memory_order_relaxed);
  condition->object.store(0, std::memory_order_relaxed);
  condition->flags = kConditionShared | flags;
  condition->magic.store(kConditionMagic, std::memory_order_release);
}

// Waiting takes three steps: enter while the mutex is held, unlock it, sleep. False: promoted, not entered.
// Promoted objects are not written to: several hosts would change the same bytes.
inline bool ConditionEnter(Condition* condition, uint32_t* sequence) {
  if (IsPromoted(condition)) return false;
  condition->waiters.fetch_add(1);
  *sequence = condition->sequence.load();
  if ((*sequence & condition_detail::kMark) == 0) return true;
  shared_detail::Leave(&condition->waiters);
  return false;
}
inline void ConditionLeave(Condition* condition) {
  shared_detail::Leave(&condition->waiters);
}

// Without leaving. kPromoted: not signalled so far.
inline int ConditionSleep(Condition* condition, uint32_t sequence, const SharedDeadline& deadline) {
  for (;;) {
    const uint32_t now = condition->sequence.load(std::memory_order_acquire);
    if ((now & ~condition_detail::kMark) != sequence) return 0;
    if ((now & condition_detail::kMark) != 0) return kPromoted;
    if (shared_detail::FutexWait(&condition->sequence, sequence, deadline) == -ETIMEDOUT) return ETIMEDOUT;
  }
}

inline int ConditionSignal(Condition* condition, bool everybody) {
  uint32_t now = condition->sequence.load();
  do {
    if ((now & condition_detail::kMark) != 0) return kPromoted;
    if ((condition->waiters.load() & ~shared_detail::kDestroying) == 0) return 0;
  } while (!condition->sequence.compare_exchange_weak(now, (now + 1) & ~condition_detail::kMark));
  shared_detail::FutexWake(&condition->sequence, everybody ? shared_detail::kEverybody : 1);
  return 0;
}

// After the last waiter has left, as glibc does.
inline int ConditionDestroy(Condition* condition) {
  if (IsPromoted(condition)) return kPromoted;
  shared_detail::AwaitEmpty(&condition->waiters);
  condition->magic.store(0, std::memory_order_relaxed);
  condition->flags = 0;
  return 0;
}

inline bool ConditionPromote(Condition* condition, uint64_t object, SharedObjectState* taken) {
  if (IsPromoted(condition)) return false;
  condition->object.store(object, std::memory_order_release);
  taken->count = condition->sequence.fetch_or(condition_detail::kMark);
  shared_detail::FutexWake(&condition->sequence, shared_detail::kEverybody);
  return true;
}

}  // namespace elsewhere::wire
