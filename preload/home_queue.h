// Message queues at home, where libc makes the calls: what is in one may be lent to a worker
// (runtime/ipc/queue_leases.h). Whoever uses one at home says so in its cell of the table and looks whether
// it is away; then the agent has it brought back first.
#pragma once

#include <stddef.h>

#include <atomic>

#include "preload/descriptor.h"
#include "preload/self.h"
#include "shim/wire/abi.h"

namespace elsewhere::preload {

// Set once this process has had one; until then poll and its kin go straight to libc.
extern constinit std::atomic<bool> has_home_queues;
inline bool HasHomeQueues() {
  return has_home_queues.load(std::memory_order_relaxed);
}

// This process has used one before it had a session, and may be inside: then none is lent.
extern constinit std::atomic<bool> queues_used_early;

inline bool IsHomeQueue(int fd) {
  return KindOf(fd) == DescriptorKind::kHomeQueue;
}

// `fd` was opened by mq_open.
void HomeQueueOpened(int fd);

// Around a call on a queue, as long as it may last. Async-signal-safe, keeps errno.
class HomeQueueUse {
 public:
  enum class Kind { kSend, kOther };
  explicit HomeQueueUse(int fd, Kind kind = Kind::kOther);
  ~HomeQueueUse();
  HomeQueueUse(const HomeQueueUse&) = delete;
  HomeQueueUse& operator=(const HomeQueueUse&) = delete;

 private:
  void Enter();
  void Leave();

  abi::QueueCell* cell_ = nullptr;
  const bool sends_;
};

// Before it is used in ways that only the kernel knows of: it is home, and stays there.
void PinHomeQueue(int fd);
// The same as an operation before input: a read of the descriptor shows what is in the queue.
bool KeepQueueHome(int fd, size_t bytes, int flags);

}  // namespace elsewhere::preload
