// A process-shared barrier of ours in a pthread_barrier_t (shared_object.h).
//
// State, low half: the number of the round and the promoted mark; high half: who arrived in it. Promotion
// forgets who arrived: they wake, find their own round unfinished and arrive again, at the agent.
#pragma once

#include <pthread.h>

#include "shim/wire/shared_object.h"

namespace elsewhere::wire {

inline constexpr uint32_t kBarrierMagic = 0xe15eba22;
inline constexpr uint32_t kBarrierShared = 128;  // as glibc's

struct Barrier {
  std::atomic<uint64_t> state;
  uint32_t count;
  uint32_t shared;
  std::atomic<uint32_t> inside;
  uint32_t magic;
  std::atomic<uint64_t> object;
};
static_assert(sizeof(Barrier) == 32 && alignof(Barrier) == 8);

namespace barrier_detail {
inline constexpr uint32_t kMark = 0x80000000;
}  // namespace barrier_detail

inline bool IsOurs(const Barrier* barrier) {
  return barrier->magic == kBarrierMagic;
}
inline bool IsPromoted(const Barrier* barrier) {
  return (barrier->state.load(std::memory_order_acquire) & barrier_detail::kMark) != 0;
}

inline void BarrierInit(Barrier* barrier, uint32_t count) {
  barrier->state.store(0, std::memory_order_relaxed);
  barrier->count = count;
  barrier->shared = kBarrierShared;
  barrier->inside.store(0, std::memory_order_relaxed);
  barrier->object.store(0, std::memory_order_relaxed);
  barrier->magic = kBarrierMagic;
  std::atomic_thread_fence(std::memory_order_release);
}

// 0, PTHREAD_BARRIER_SERIAL_THREAD or kPromoted.
inline int BarrierWait(Barrier* barrier) {
  using namespace shared_detail;
  using namespace barrier_detail;
  if (IsPromoted(barrier)) return kPromoted;  // not written to any more: several hosts would
  barrier->inside.fetch_add(1, std::memory_order_relaxed);
  uint64_t state = barrier->state.load(std::memory_order_acquire);
  int result = kPromoted;
  while ((Low(state) & kMark) == 0) {
    const uint32_t round = Low(state);
    const bool last = High(state) + 1 == barrier->count;
    const uint64_t arrived = last ? Join((round + 1) & ~kMark, 0) : Join(round, High(state) + 1);
    if (!barrier->state.compare_exchange_weak(state, arrived, std::memory_order_acq_rel)) continue;
    if (last) FutexWake(&barrier->state, kEverybody);
    result = last ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
    for (state = arrived; !last && Low(state) == round;
         state = barrier->state.load(std::memory_order_acquire))
      FutexWait(&barrier->state, round, {});
    if (!last && Low(state) == (round | kMark)) result = kPromoted;
    break;
  }
  Leave(&barrier->inside);
  return result;
}

// After everybody has left. Of a promoted one that is meant for those who left before its promotion.
inline void BarrierAwaitEmpty(Barrier* barrier) {
  shared_detail::AwaitEmpty(&barrier->inside);
}

inline int BarrierDestroy(Barrier* barrier) {
  if (IsPromoted(barrier)) return kPromoted;
  BarrierAwaitEmpty(barrier);
  barrier->magic = 0;
  barrier->shared = 0;
  return 0;
}

inline bool BarrierPromote(Barrier* barrier, uint64_t object, SharedObjectState* taken) {
  using namespace shared_detail;
  using namespace barrier_detail;
  if (IsPromoted(barrier)) return false;
  barrier->object.store(object, std::memory_order_release);
  uint64_t state = barrier->state.load(std::memory_order_acquire);
  while (!barrier->state.compare_exchange_weak(state, Join(Low(state) | kMark, 0))) {
  }
  taken->count = barrier->count;
  FutexWake(&barrier->state, kEverybody);
  return true;
}

}  // namespace elsewhere::wire
