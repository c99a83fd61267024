// A message queue that is lent to a host (runtime/ipc/lent_queues.h): what its processes know of it.
#pragma once

#include "shim/wire/abi.h"

namespace elsewhere::abi {

// Results of calls about a message queue that no kernel gives: nothing was done.
inline constexpr int64_t kQueueLent = int64_t{1} << 40;  // it is lent to the caller's host; answer: LentQueue
inline constexpr int64_t kQueueAgain = int64_t{1} << 41;  // ask again
// Where it is (runtime/ipc/lent_queues.h), and what the caller's descriptor of it may do.
struct LentQueue {
  uint64_t lease;
  int32_t id;     // System V queue of this host's kernel
  uint32_t room;  // bytes of a message, at most
  int32_t flags;  // O_ACCMODE and O_NONBLOCK
  uint32_t reserved;
};
// What is in the System V queue. All are of one size, so that its limit in bytes is one in messages. Types
// tell the order, the lowest is the first: the priority, then when it was sent (CLOCK_MONOTONIC), as nobody
// sends two within 64 nanoseconds, nor before what he knows of. So each has its own, and can be taken alone.
struct LentMessage {
  int64_t type;
  uint32_t size;
  uint32_t reserved;
  uint8_t bytes[];  // room
};
inline constexpr uint32_t kLentPriorities = 32768;
inline constexpr int kLentTimeBits = 48;  // 208 days
inline constexpr uint64_t kLentTimes = uint64_t{1} << kLentTimeBits;
inline constexpr int64_t kAnyLentType = -INT64_MAX;  // for msgrcv: the lowest
inline constexpr uint64_t LentTime(uint64_t nanoseconds) {
  return nanoseconds >> 6;
}
inline constexpr int64_t LentType(uint32_t priority, uint64_t time) {
  return static_cast<int64_t>(uint64_t{kLentPriorities - 1 - priority} << kLentTimeBits | time % kLentTimes);
}
inline constexpr uint32_t LentPriority(int64_t type) {
  return kLentPriorities - 1 - static_cast<uint32_t>(type >> kLentTimeBits);
}
inline constexpr uint32_t LentMessageBytes(uint32_t room) {  // without the type
  return static_cast<uint32_t>(sizeof(LentMessage) - sizeof(int64_t)) + (room + 7) / 8 * 8;
}

}  // namespace elsewhere::abi
