// Calls of home's kernel with memory, made by the deputy of a process that runs elsewhere: message queues and
// System V objects (struct abi::KernelCall). Rules of shim/wire/message.h.
#pragma once

#include <cstring>

#include "shim/wire/abi.h"
#include "shim/wire/message.h"

namespace elsewhere::wire {

struct KernelCall {
  static constexpr MessageType kType = MessageType::kKernelCall;
  Incarnation incarnation = 0;
  uint64_t id = 0;            // the sender's, echoed
  std::vector<uint8_t> call;  // struct abi::KernelCall, then the bytes that are given
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.id, s.call);
  }
};

// Of a message queue that a host may send to without waiting for the answer (runtime/ipc/sending_right.h).
struct QueueRoom {
  uint64_t right = 0;    // never used twice
  uint64_t allowed = 0;  // so many messages with this right, since it was given
  uint32_t bytes = 0;    // of a message, at most
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.right, s.allowed, s.bytes);
  }
};

struct KernelResult {
  static constexpr MessageType kType = MessageType::kKernelResult;
  Incarnation incarnation = 0;
  uint64_t id = 0;
  int64_t result = 0;  // negative errno on failure
  std::vector<uint8_t> answer;
  uint64_t right = 0;            // that the host has to what the call has sent to; 0: none
  std::vector<QueueRoom> rooms;  // that have changed
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.id, s.result, s.answer, s.right, s.rooms);
  }
};

// The caller got a signal. The result still comes: EINTR, or what had been done by then.
struct KernelCancel {
  static constexpr MessageType kType = MessageType::kKernelCancel;
  Incarnation incarnation = 0;
  uint64_t id = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.id);
  }
};

// Home to the process's worker: a queue that it watches has changed, or notifies it.
struct KernelEvent {
  static constexpr MessageType kType = MessageType::kKernelEvent;
  Incarnation incarnation = 0;
  int32_t descriptor = -1;
  uint32_t state = 0;  // as abi::KernelEvent
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.descriptor, s.state);
  }
};

// A message queue that is lent to a host (runtime/ipc/queue_leases.h), and what is in it, in its order.
struct QueuedMessage {
  uint32_t priority = 0;
  std::vector<uint8_t> bytes;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.priority, s.bytes);
  }
};
struct QueueOrder {
  static constexpr MessageType kType = MessageType::kQueueOrder;
  uint64_t lease = 0;  // never used twice
  bool recall = false;
  uint32_t room = 0;      // bytes of a message, at most
  uint32_t capacity = 0;  // messages, at most
  std::vector<QueuedMessage> messages;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.lease, s.recall, s.room, s.capacity, s.messages);
  }
};
// The lease has ended: recalled, given back unasked, or refused.
struct QueueReturn {
  static constexpr MessageType kType = MessageType::kQueueReturn;
  uint64_t lease = 0;
  bool refused = false;
  std::vector<QueuedMessage> messages;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.lease, s.refused, s.messages);
  }
};

// To home: there is room, so nobody waits for an answer.
struct QueueSend {
  static constexpr MessageType kType = MessageType::kQueueSend;
  uint64_t right = 0;
  QueuedMessage message;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.right, s.message);
  }
};
// From home: the right ends. To home: it has ended, behind all that was sent with it.
struct QueueRightEnd {
  static constexpr MessageType kType = MessageType::kQueueRightEnd;
  uint64_t right = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.right);
  }
};

// EPROTO: not a call, or one whose parts do not fit.
inline Result<abi::KernelCall> CheckKernelCall(std::span<const uint8_t> bytes) {
  abi::KernelCall call{};
  if (bytes.size() < sizeof call) return Error{EPROTO, "a kernel call is too short"};
  std::memcpy(&call, bytes.data(), sizeof call);
  bool good = call.data == bytes.size() - sizeof call && call.data <= call.memory &&
              call.memory <= abi::kMostKernelMemory && call.answer <= call.memory;
  for (unsigned i = 0; i < 6; ++i) {
    if ((call.pointers >> i & 1) == 0) continue;
    good = good && call.arguments[i] >= 0 && call.arguments[i] <= static_cast<int64_t>(call.memory);
  }
  if (!good) return Error{EPROTO, "the parts of a kernel call do not fit"};
  return call;
}

}  // namespace elsewhere::wire
