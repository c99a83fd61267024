// Operations of this host's processes on promoted semaphores: calls of the table.
//
// A wait is one request (semaphore_arbiter.h); its grant comes behind whatever was published before the post,
// and completes the call. A deadline, a signal or a death cancels the wait; if home
// says that the grant was on its way already, a living caller gets it (the call succeeds), a dead one's is
// posted again. So is one that a caller was given and died without having looked at, which its slot still
// tells: no death loses a post. A post leaves only after the poster's stream data and shared memory
// have been sent (Agent::Drain). It returns as soon as it has left: whatever this host sends later, and every
// later operation, comes behind it. Home's answer is waited for where the count might reach its maximum (the
// object's name tells, wire::kSemaphoreLarge, with this host's own posts), and now and then, so that a host
// that posts faster than home takes cannot fill the broker.
//
// While a semaphore is lent to this host its processes operate on its cell (shim/wire/semaphore_lease.h), and
// what comes here nevertheless is tried again there, or done there: so are posts of processes that have
// output to be sent first, where the cell cannot say that already. The lease ends when home asks, and before
// the last process of a worker is said to have ended.
//
// Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent.h"
#include "runtime/ipc/semaphore_arbiter.h"
#include "shim/wire/memory_message.h"
#include "shim/wire/semaphore_lease.h"

namespace elsewhere::runtime {

class SemaphoreCalls {
 public:
  // `publish`: sends what was written to shared memory; for posters that the agent does not know (any more).
  SemaphoreCalls(Agent& agent, std::function<void()> publish);

  // An object is reserved, its word promoted (which takes the count), then it is made at home:
  // operations of this host come behind that, those of others behind whatever tells them of the object.
  // `count`: as far as it is known.
  uint64_t Reserve(uint32_t count) {
    return wire::MakeIncarnation(agent_.host(),
                                 ++last_object_ | (count > kSmallCount ? wire::kSemaphoreLarge : 0));
  }
  void Create(uint64_t object, uint32_t count);
  void Destroy(uint64_t object);

  void BeforeSend(HostId to) { semaphores_.BeforeSend(to); }
  void CallDropped(CallId id);
  void CallCancelled(CallId id);
  // Of a worker's processes.
  void ProcessStarted(int32_t kernel_pid) { processes_.insert(kernel_pid); }
  const std::unordered_set<int32_t>& processes() const { return processes_; }
  void ProcessEnding(const Process& process);
  // It is not yet said; `done` when what was this worker's is home, where it was the last.
  void ProcessEnded(int32_t kernel_pid, std::function<void()> done);
  void ProcessGone(int32_t kernel_pid);
  void HostGone(HostId host);

 private:
  static constexpr uint32_t kSmallCount = 1 << 29;
  static constexpr uint32_t kPostsUnasked = 1 << 22;  // of one host; a session has far fewer than 256 hosts

  static constexpr uint32_t kPostsAhead = 256;

  struct Waiter {
    CallId call;
    int32_t process = 0;  // kernel pid
    uint64_t object = 0;
    EventLoop::TimerId timer = 0;
    bool dead = false;       // the caller is gone
    bool cancelled = false;  // asked for at home
  };

  void Post(CallId id, const Call& call);
  bool CanOverflow(uint64_t object);
  bool IsFarAhead();
  void Wait(CallId id, const Call& call);
  struct Given {  // a token, in a slot where its process may not have found it yet
    uint32_t slot = 0;
    uint64_t object = 0;
  };

  void TryWait(CallId id, const Call& call, int busy_error);
  void GetValue(CallId id, uint64_t object);
  uint64_t AddWaiter(CallId id, const Call& call);
  bool IsUntaken(int32_t process, const Given& given) const;
  void Refuse(uint64_t waiter, int error);  // answers and forgets it, if it still waits
  void Cancel(uint64_t waiter, int error);
  void Forget(uint64_t waiter);
  void OnGrant(uint64_t object, uint64_t waiter);
  // nullptr: it is not lent to this host.
  wire::Semaphore* Lent(uint64_t object);
  bool PostLent(CallId id, uint64_t object);
  bool OnLent(uint64_t object, uint32_t count);
  void Settle(CallId id, const Call& call);
  void EndLease(uint64_t object);
  void AwaitAhead(uint64_t object, uint32_t count);
  void Left(uint64_t object);
  bool IsLeaving(uint64_t object, const Call& call, std::function<void()> again);
  void DrainAll();
  bool HasTokens(uint64_t object);
  void PostAgain(uint64_t object);
  void PostTokens(uint64_t object, uint32_t count);  // here, or at home
  void OnForgotten(uint64_t object);
  void Know(uint64_t object, uint32_t known);

  Agent& agent_;
  const std::function<void()> publish_;
  SemaphoreArbiter semaphores_;
  std::unordered_map<uint64_t, Waiter> waiters_;
  std::unordered_map<uint64_t, uint64_t> by_call_;
  std::unordered_map<int32_t, std::vector<Given>> given_;
  std::unordered_map<uint64_t, uint32_t> posts_;  // of this host, by object
  std::unordered_map<uint64_t, uint32_t> done_;   // of those that its cell counts, by object
  uint32_t unasked_ = 0;                          // posts of this host
  std::unordered_set<uint64_t> lent_;
  // Leases that have ended, but for what was written before their posts, which is not in.
  struct Leaving {
    uint32_t leases = 0;
    bool forgotten = false;
    std::vector<std::function<void()>> asked;  // meanwhile
  };
  std::unordered_map<uint64_t, Leaving> leaving_;
  std::vector<std::function<void()>> when_left_;  // all of them
  // What processes had written before they posted what is lent here, and may not be in.
  std::unordered_map<uint64_t, std::set<wire::StreamId>> ahead_;
  std::unordered_set<int32_t> processes_;
  uint64_t last_waiter_ = 0;
  // Their cells are then not those of as many pthread objects (shared_objects.h), which are counted from 1.
  uint64_t last_object_ = wire::kLeaseCells / 2;
};

}  // namespace elsewhere::runtime
