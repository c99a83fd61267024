// Large counts of promoted semaphores, of which every host that uses them has a part (semaphore_share.h):
// this host's part, and at home who else has one.
//
// Room for posts follows the tokens: what a host's processes took, net, since it last told makes room that it
// passes on when it next tells its count, before any message that leaves it. Who posts in answer to a message
// thus finds room: the getters of a queue post what its putters took. From workers it goes to home, from home
// to all others in equal parts. Wherever it lacks, and wherever tokens lack, home gathers all parts.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>

#include "runtime/agent.h"
#include "shim/wire/memory_message.h"
#include "shim/wire/semaphore_share.h"

namespace elsewhere::runtime {

class SemaphoreShares {
 public:
  struct Callbacks {
    std::function<bool()> may_take;       // there are processes on this host that it could be for
    std::function<void()> before_return;  // what processes of this host wrote is to leave
    // Home: all that there is of it is in hand, and nobody has a part.
    std::function<void(uint64_t object, uint32_t count)> gathered;
    std::function<void(uint64_t object)> refused;
  };
  SemaphoreShares(Agent& agent, Callbacks callbacks);

  // This host's part; nullptr: it has none.
  wire::SemaphoreShare* Part(uint64_t object);
  void BeforeSend();
  void ReturnAll();
  void OnMessage(HostId from, const wire::SemaphorePartMessage& message);

  // The rest at home. False: it cannot be shared out.
  bool Begin(uint64_t object, uint32_t count);
  bool Has(uint64_t object, HostId host) const;
  void Give(uint64_t object, HostId host);
  // All parts come home, then `gathered` is called; perhaps at once.
  void Gather(uint64_t object);
  bool IsGathering(uint64_t object) const;
  void Forget(uint64_t object);
  void ForgetHost(HostId host);

 private:
  using Message = wire::SemaphorePartMessage;
  struct Told {
    uint32_t count = 0;      // by that host
    uint32_t elsewhere = 0;  // to it
  };
  struct Shared {
    uint32_t told = 0;              // what this host's count was when it told it last
    std::map<HostId, Told> others;  // home; so is the rest
    bool gathering = false;
    wire::SemaphorePart in_hand;
  };

  wire::SemaphoreShare* Cell(uint64_t object);
  uint32_t Elsewhere(const Shared& shared, uint32_t own, HostId of) const;
  void TellHome(uint64_t object, Shared& shared);
  void TellOthers(uint64_t object, Shared& shared);
  void OnNews(HostId from, const Message& news);
  void OnReturn(HostId from, const Message& part);
  void OnGive(const Message& part);
  void Return(uint64_t object);
  void EndIfGathered(uint64_t object);

  Agent& agent_;
  const Callbacks callbacks_;
  std::unordered_map<uint64_t, Shared> shared_;  // a worker: that are here
};

}  // namespace elsewhere::runtime
