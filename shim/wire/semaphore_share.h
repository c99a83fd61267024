// A promoted semaphore with a large count is not lent but shared out (lease.h): each host that uses it has a
// part of what may be taken and of what may be posted before the maximum is reached, and its processes take
// and post from that without asking. All parts together are kSemaphoreMaximum; each is one 64-bit word: the
// count (bits 0-30), the mark (bit 31: nothing is here, ask the agent) and the room for posts (bits 32-63). A
// wait turns one of the count into one of the room, a post the other way round: so nothing is lost, counted
// twice or posted beyond the maximum, whoever dies between two instructions. Where a part does not suffice,
// the agent is asked, and home gathers all parts before it says EAGAIN or EOVERFLOW, or makes a caller wait.
//
// The value is this part and `elsewhere`, what the other parts were when this host last heard of them. Hosts
// tell it before whatever else they send (runtime/ipc/semaphore_shares.h): so it is the value after
// everything that the caller can know of.
#pragma once

#include <utility>

#include "shim/wire/lease.h"
#include "shim/wire/semaphore.h"

namespace elsewhere::wire {

struct SemaphorePart {
  uint32_t count = 0;
  uint32_t room = 0;
};

struct SemaphoreShare {
  std::atomic<uint64_t> data;
  std::atomic<uint64_t> object;
  std::atomic<uint32_t> elsewhere;
};

namespace share_detail {
inline constexpr uint64_t kOneRoom = uint64_t{1} << 32;
inline SemaphorePart PartOf(uint64_t data) {
  return {static_cast<uint32_t>(data) & kSemaphoreMaximum, static_cast<uint32_t>(data >> 32)};
}
inline bool IsMarked(uint64_t data) {
  return (data & kSemaphorePromoted) != 0;
}
// Changes the word unless it is marked, by what `change` makes of it; false also where that refuses.
template <class Change>
inline bool Exchange(SemaphoreShare* share, Change change) {
  uint64_t data = share->data.load(std::memory_order_acquire);
  uint64_t next = 0;
  do {
    next = data;
    if (IsMarked(data) || !change(&next)) return false;
  } while (
      !share->data.compare_exchange_weak(data, next, std::memory_order_acq_rel, std::memory_order_acquire));
  return true;
}
}  // namespace share_detail

// False: ask the agent.
inline bool ShareTake(SemaphoreShare* share) {
  return share_detail::Exchange(share, [](uint64_t* data) {
    if (share_detail::PartOf(*data).count == 0) return false;
    *data += share_detail::kOneRoom - 1;
    return true;
  });
}
inline bool SharePost(SemaphoreShare* share) {
  return share_detail::Exchange(share, [](uint64_t* data) {
    if (share_detail::PartOf(*data).room == 0) return false;
    *data -= share_detail::kOneRoom - 1;
    return true;
  });
}
inline bool ShareGetValue(const SemaphoreShare* share, int* value) {
  uint64_t data = share->data.load(std::memory_order_acquire);
  uint64_t sum = 0;
  // Tokens that come from elsewhere are counted there or here: the word is marked while they change sides.
  for (uint64_t before = ~data; before != data;) {
    if (share_detail::IsMarked(data)) return false;
    sum = uint64_t{share_detail::PartOf(data).count} + share->elsewhere.load(std::memory_order_acquire);
    before = std::exchange(data, share->data.load(std::memory_order_acquire));
  }
  *value = static_cast<int>(sum < kSemaphoreMaximum ? sum : kSemaphoreMaximum);
  return true;
}

// The rest by agents only. Adds to what is here, or begins it; `elsewhere`: what is elsewhere from then on,
// nullptr: as before. False: the cell is another object's.
inline bool SharePut(SemaphoreShare* share, uint64_t object, SemaphorePart part,
                     const uint32_t* elsewhere = nullptr) {
  const uint64_t owner = share->object.load(std::memory_order_relaxed);
  if (owner != 0 && owner != object) return false;
  if (owner == 0) {
    share->data.store(kSemaphorePromoted, std::memory_order_relaxed);
    share->elsewhere.store(0, std::memory_order_relaxed);
    share->object.store(object, std::memory_order_release);
  }
  if (elsewhere != nullptr) {
    const uint64_t here = share->data.exchange(kSemaphorePromoted, std::memory_order_acq_rel);
    part.count += share_detail::PartOf(here).count;
    part.room += share_detail::PartOf(here).room;
    share->elsewhere.store(*elsewhere, std::memory_order_release);
  }
  uint64_t data = share->data.load(std::memory_order_relaxed);
  uint64_t next = 0;
  do {
    next = data & ~uint64_t{kSemaphorePromoted};
    next += uint64_t{part.room} << 32 | part.count;
  } while (!share->data.compare_exchange_weak(data, next, std::memory_order_acq_rel));
  return true;
}

// All that is here; from now on the agent is asked.
inline SemaphorePart ShareTakeAll(SemaphoreShare* share) {
  const uint64_t data = share->data.exchange(kSemaphorePromoted, std::memory_order_acq_rel);
  return share_detail::PartOf(data);
}

// Up to so much of the room, for another host.
inline uint32_t ShareTakeRoom(SemaphoreShare* share, uint32_t most) {
  uint32_t taken = 0;
  share_detail::Exchange(share, [&taken, most](uint64_t* data) {
    const uint32_t room = share_detail::PartOf(*data).room;
    taken = room < most ? room : most;
    *data -= uint64_t{taken} << 32;
    return true;
  });
  return taken;
}

inline SemaphorePart ShareLook(const SemaphoreShare* share) {
  return share_detail::PartOf(share->data.load(std::memory_order_acquire));
}

}  // namespace elsewhere::wire
