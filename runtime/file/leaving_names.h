// Names in mapped directories that are about to be removed, replaced or changed, and the other hosts that
// have their files open (shim/file/other_holders.h).
//
//   asker            home                    the other hosts, home among them
//   NameLeaves  -->  waits until no other such request is about these names or what is below them
//                    NameLeaves  -->         fetch what is open there whole, send nothing of it from now on
//                                 <--        NameKept
//                <-- NameKept
//   removes, or copies and removes
//   NameSettled -->  NameSettled -->         the file has no name any more, another one, or still this one
//
// Rules
//  - Home decides about one request after the other where they touch, so no two hosts wait for each other.
//  - While no process runs elsewhere and nothing is locked, home asks nobody, not even itself.
//  - A host that is gone has nothing open any more. What it asked for is settled as not done, once all have
//  answered; if the object is gone all the same, who flushes the file gets ESTALE.
//  - Fetching has threads of its own, for those of calls may all be waiting here.
//
// Limit: a file that another host opens between its answer and the removal is not fetched.
// Thread-safety: calls of OtherHolders come from any thread but the loop's; all else is the loop's.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/agent.h"
#include "runtime/file/maps.h"
#include "shim/file/other_holders.h"
#include "shim/file/workers.h"
#include "shim/wire/file_message.h"

namespace elsewhere::runtime {

class LeavingNames {
 public:
  // Outlives every call on the maps. `gone`: home is told of what was done.
  using Gone = std::function<void(const wire::NameLeaves&)>;
  LeavingNames(Agent& agent, Maps& maps, Gone gone);
  ~LeavingNames() { End(); }
  LeavingNames(const LeavingNames&) = delete;
  LeavingNames& operator=(const LeavingNames&) = delete;

  // Home: whether any process runs on another host, or wants to hear of names.
  void SetNeeded(bool needed) { needed_ = needed; }
  void HostGone(HostId host);
  // Whoever waits is refused from now on, and what was held for others stays what it is.
  void End();

 private:
  // Of one map.
  class Asker final : public file::OtherHolders {
   public:
    Asker(LeavingNames& names, uint32_t map) : names_(names), map_(map) {}
    Result<uint64_t> Leaves(const std::string& from, const std::string& to) override {
      return names_.Leaves(map_, from, to);
    }
    void Settled(uint64_t announcement, bool done) override { names_.Settled(announcement, done); }

   private:
    LeavingNames& names_;
    const uint32_t map_;
  };
  // At home.
  struct Request {
    HostId asker = wire::kHome;
    uint64_t number = 0;     // the asker's
    wire::NameLeaves names;  // with home's number
    bool active = false;
    bool abandoned = false;         // the asker is gone
    std::set<HostId> asked{};       // will be told how it was settled
    std::set<HostId> unanswered{};  // of these
    int error = 0;
  };
  using Requests = std::list<Request>;
  // On every host: what it has open, by home's number.
  struct Kept {
    wire::NameLeaves names;
    std::vector<file::FileSystem::Held> held;
  };

  Result<uint64_t> Leaves(uint32_t map, const std::string& from, const std::string& to);
  void Settled(uint64_t number, bool done);
  void Answer(uint64_t number, int error);

  void Enter(HostId asker, const wire::NameLeaves& names);
  void Begin();
  void OnKept(HostId from, uint64_t number, int error);
  void AllKept(Requests::iterator request);
  void OnSettled(HostId asker, uint64_t number, bool done);
  void Finish(Requests::iterator request, bool done);

  void Keep(const wire::NameLeaves& names);
  void Settle(uint64_t number, bool done);

  Agent& agent_;
  Maps& maps_;
  std::vector<std::unique_ptr<Asker>> askers_;
  const Gone gone_;
  std::atomic<bool> needed_ = false;

  std::mutex mutex_;
  std::condition_variable answered_;
  std::map<uint64_t, std::optional<int>> waiting_;  // calls of this host: nothing, then the answer
  uint64_t last_asked_ = 0;
  bool ended_ = false;

  Requests requests_;  // in the order of their coming
  uint64_t last_request_ = 0;
  std::map<uint64_t, Kept> kept_;
  std::unique_ptr<file::Workers> fetchers_;  // nullptr: ended
};

}  // namespace elsewhere::runtime
