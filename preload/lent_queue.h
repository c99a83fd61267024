// Worker: message queues that are lent to this host (runtime/ipc/lent_queues.h). Each is a System V queue of
// this host's kernel; when it goes home it is removed, which wakes whoever sleeps in it, and calls find that.
#pragma once

#include <mqueue.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "shim/wire/lent_queue.h"

namespace elsewhere::preload {

// What the descriptor was last known to be. False: nothing is known.
bool FindLentQueue(int fd, abi::LentQueue* queue);
void RememberLentQueue(int fd, const abi::LentQueue& queue);
void ForgetLentQueue(int fd);
// After a restore, which may be on another host.
void ForgetLentQueues();

// A call of the program: it notes which signals come while it lasts, wherever it waits.
class QueueWait {
 public:
  QueueWait();
  ~QueueWait();
  // A handler without SA_RESTART has run meanwhile.
  static bool Interrupted();
  QueueWait(const QueueWait&) = delete;
  QueueWait& operator=(const QueueWait&) = delete;

 private:
  const uint64_t outer_;
};
// A handler without SA_RESTART runs; `context` is its own.
void InterruptQueueWait(void* context);

enum class Lent {
  kDone,   // *result, or errno where that is -1
  kGone,   // it went home
  kWaits,  // it must wait with a limit
};
Lent SendToLent(const abi::LentQueue& queue, const char* message, size_t size, unsigned priority,
                const timespec* limit, int* result);
Lent ReceiveFromLent(const abi::LentQueue& queue, char* message, size_t size, unsigned* priority,
                     const timespec* limit, ssize_t* result);
Lent LookAtLent(const abi::LentQueue& queue, struct mq_attr* attributes, int* result);

}  // namespace elsewhere::preload
