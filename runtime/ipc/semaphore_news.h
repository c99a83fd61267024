// Home: what other hosts know of the counts of promoted semaphores (semaphore_lease.h), so that looking at
// one, and a trywait that finds nothing, ask nobody.
//
// A host knows a count from the answer to whatever it asked about it, and is told when that changes: before
// anything else that is sent to it (so nobody there can have learned of a post and not see it), and without
// that when the round is through. Only that its own posts have been counted waits for another message. Who
// asks nothing for long is told that it knows nothing, and then no more.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include "runtime/agent.h"
#include "shim/wire/memory_message.h"

namespace elsewhere::runtime {

class SemaphoreNews {
 public:
  // What is so now, for that host.
  using Look = std::function<wire::SemaphoreNow(uint64_t object, HostId host)>;
  SemaphoreNews(Agent& agent, Look look) : agent_(agent), look_(std::move(look)) {}

  // To be sent to the host as the next message. From then on it is told.
  wire::SemaphoreNow Tell(uint64_t object, HostId host);
  void Changed(uint64_t object);
  void BeforeSend(HostId to);
  // It is destroyed: hosts that may have a cell for it are to free that.
  void Forget(uint64_t object);
  void ForgetHost(HostId host);

 private:
  static constexpr uint32_t kMostUnasked = 64;

  struct Told {
    wire::SemaphoreNow now;
    uint32_t unasked = 0;  // times since it asked
  };

  void Flush();

  Agent& agent_;
  const Look look_;
  std::unordered_map<uint64_t, std::map<HostId, Told>> told_;
  std::map<HostId, std::set<uint64_t>> untold_;
  bool flushes_ = false;
};

}  // namespace elsewhere::runtime
