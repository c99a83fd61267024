// Worker: sends to message queues that need not wait for home's answer.
//
// A host from which alone a queue is sent to gets the right to it (queue_leases.h), and is told how many
// messages there is room for. Whoever receives only makes more room, so what is sent within that number
// certainly goes in: the sender goes on at once, and the message leaves before whatever this host sends next.
// Anything else about the queue goes the usual way, behind it. Home takes the right back before anybody else
// may send. Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/agent.h"
#include "shim/wire/kernel_message.h"

namespace elsewhere::runtime {

class SendingRights {
 public:
  // What home says with any result.
  void Learn(const std::vector<wire::QueueRoom>& rooms);
  // What the process has just sent to through this descriptor is a queue that this host has the right to.
  void Learn(Incarnation process, int32_t descriptor, uint64_t right);
  // A call of a process (checked, with its `data`). The message to send in its place: it is done then.
  // nullopt: home must be asked.
  std::optional<wire::QueueSend> Use(Incarnation process, const abi::KernelCall& call,
                                     std::span<const uint8_t> data);
  // Its descriptors may be others from now on.
  void Forget(Incarnation process);
  void End(uint64_t right) { rights_.erase(right); }
  void Clear() { *this = {}; }

 private:
  struct Right {
    uint64_t sent = 0;
    uint64_t allowed = 0;
    uint32_t bytes = 0;
  };
  std::unordered_map<uint64_t, Right> rights_;
  std::map<std::pair<Incarnation, int32_t>, uint64_t> descriptors_;
};

}  // namespace elsewhere::runtime
