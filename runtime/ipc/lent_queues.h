// Worker: the message queues that home has lent to this host (queue_leases.h).
//
// What is in one is in a System V queue of this host's kernel, which this host's processes send to and
// receive from without asking anybody (preload/lent_queue.h): that kernel object can be closed for senders,
// emptied and removed, and whoever sleeps in it is woken by that, wherever it was stopped or killed. A
// process that finds it removed asks home.
//
// Needs an IPC namespace of this worker's own: nothing is left behind where the agent is killed, and its
// limits are ours. Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent.h"
#include "shim/wire/kernel_message.h"
#include "shim/wire/lent_queue.h"

namespace elsewhere::runtime {

class LentQueues {
 public:
  explicit LentQueues(Agent& agent);
  ~LentQueues() { Clear(); }

  void ProcessStarted(Incarnation process) { processes_.insert(process); }
  // Everything goes home before the last process is said to have ended.
  void ProcessEnded(Incarnation process);
  // Fills in where the queue is; false: it has gone home.
  bool Find(uint64_t lease, abi::LentQueue* queue) const;
  void Clear();

 private:
  struct Lent {
    int id = -1;
    uint32_t room = 0;
  };

  void OnOrder(wire::QueueOrder&& order);
  bool Take(const wire::QueueOrder& order);
  void Return(uint64_t lease);

  Agent& agent_;
  bool has_room_ = false;
  std::unordered_set<Incarnation> processes_;
  std::unordered_map<uint64_t, Lent> lent_;
};

// On System V queues; for tests.
int MakeLentQueue(uint32_t room, uint32_t capacity);  // -1: there is no room
bool PutIntoLentQueue(int id, uint32_t room, const wire::QueuedMessage& message, uint64_t time);
// Removes it, and returns all that senders were told is sent and no receiver has got.
std::vector<wire::QueuedMessage> TakeLentQueue(int id, uint32_t room);

}  // namespace elsewhere::runtime
