// Process-shared pthread objects on this host: their promotion, and what its processes ask about promoted
// ones.
//
// Home's agent keeps the arbiter (shared_object_arbiter.h) and asks it itself; a worker's sends requests and
// gets answers. Where objects lie in memory that only home's processes have is noted when they are made; when
// that memory becomes a segment of several hosts they are promoted (shim/wire/shared_object.h), and objects
// made there later are promoted from the first. Who initialises an object writes it before it asks here, so
// that it is found by a promotion that comes in between.
//
// What releases (unlock, signal, arriving at a barrier) leaves after the caller's stream data and shared
// memory (Agent::Drain), as a semaphore's post does; an answer comes behind whatever was published before the
// release that it is owed to.
//
// Deaths: a dead thread's wait is abandoned, and what it was given before it heard of it is returned: also
// what lies in its slot when it dies, for natively nobody dies between being given a mutex and having it.
// Threads that hold robust mutexes are watched (thread_watch.h).
//
// What is lent to this host (shared_lessee.h) is looked at before home is asked.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/ipc/segments.h"
#include "runtime/ipc/shared_lessee.h"
#include "runtime/ipc/shared_object_arbiter.h"
#include "runtime/ipc/thread_watch.h"
#include "shim/wire/shared_message.h"

namespace elsewhere::runtime {

class SharedObjects {
 public:
  // `publish`: sends what was written to shared memory; for callers that the agent does not know (any more).
  SharedObjects(Agent& agent, Segments& segments, const SharedLessee::Processes& processes,
                std::function<void()> publish);

  // Home: the objects that were made in it while it was this host's alone. An error: its children stay at
  // home.
  Status Promote(const ObjectKey& key, Segment& segment);

  void LookForDeaths();
  void CallDropped(CallId id);
  void ProcessGone(int32_t kernel_pid);
  void HostGone(HostId host);
  // A worker's last process is about to be said to have ended.
  void ReturnLeases() { lessee_.ReturnAll(); }
  void Close();

 private:
  struct Pending {
    CallId call;
    wire::SharedAction action{};
    uint64_t object = 0;
    uint64_t argument = 0;
    uint32_t thread = 0;
    int32_t process = 0;  // kernel pid
    EventLoop::TimerId timer = 0;
    bool asked = false;
    bool dead = false;
  };

  struct Given {  // an answer in a slot where its process may not have found it yet
    Pending pending;
    int error = 0;
  };
  bool IsUntaken(const Given& given) const;
  void NoteGiven(const Pending& pending, int error);

  void OnMake(CallId id, const Call& call);
  void OnAct(CallId id, const Call& call);
  void Release(CallId id, const Call& call);
  uint64_t AddPending(CallId id, const Call& call);
  void AskPending(uint64_t request, const Call& call);
  void Ask(const wire::SharedRequest& request);
  void OnAnswer(const wire::SharedAnswer& answer);
  void GiveBack(const Pending& pending, int error);
  void TimeIsOver(uint64_t request);
  void ThreadDied(uint32_t thread);
  bool PromoteAt(uint8_t* at, wire::SharedKind kind);

  Agent& agent_;
  Segments& segments_;
  const std::function<void()> publish_;
  std::unique_ptr<SharedObjectArbiter> arbiter_;  // home
  ThreadWatch watch_;
  SharedLessee lessee_;
  std::map<ObjectKey, std::map<uint64_t, wire::SharedKind>> made_in_;  // home: by offset
  std::unordered_map<uint64_t, Pending> pending_;                      // by request
  std::unordered_map<uint64_t, uint64_t> by_call_;
  std::unordered_map<int32_t, std::vector<Given>> given_;
  uint64_t last_request_ = 0;
};

}  // namespace elsewhere::runtime
