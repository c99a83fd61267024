// The counts of promoted semaphores and the queues of their waiters: kept by home's agent, in memory.
//
// Why not at the broker: with a script for each operation, a post that wakes a waiter on another host and one
// back took 2.6 to 2.9 times what two bare clients need for a hand-over each way; a message to home and one
// back, through the same broker, 1.2 to 2.4 times, and less over a direct connection (bench/ipc). Home's own
// processes wait for no server at all. Nothing is lost by it: a session does not outlive its home agent.
//
// Order: requests and grants are messages like all others. What a host published before its post is in every
// inbox before home hears of the post, so before the grant that home then sends. Waiters are served in the
// order in which their waits reached home, but for those whose processes were killed at home: they die on
// their workers a moment later, and what is posted when their death is known is not theirs.
//
// Leases: a host whose processes alone have used a semaphore for a while (lease_history.h) gets its count
// (semaphore_lease.h), and home asks it back as soon as anybody else needs it; what others ask meanwhile
// waits here for that, in its order. While it is lent, what comes from that host was sent before it knew:
// waits it tries again itself, posts it has counted itself. Each recall makes the next lease rarer, so that
// an object that two hosts use is not carried to and fro. Large counts are not lent but shared out
// (semaphore_shares.h): home acts on its own part, and has all parts again before somebody must wait or is
// refused. Nothing is lent to a host without processes, which may go at any time.
//
// The same interface on every host: home acts, a worker sends a SemaphoreRequest and gets a SemaphoreGrant
// (the waiter has its token) or a SemaphoreAnswer. Callbacks may run at once. Thread-safety: one loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>

#include "runtime/agent.h"
#include "runtime/ipc/lease_history.h"
#include "runtime/ipc/semaphore_news.h"
#include "runtime/ipc/semaphore_shares.h"
#include "shim/wire/memory_message.h"

namespace elsewhere::runtime {

class SemaphoreArbiter {
 public:
  using ErrorCallback = std::function<void(int error)>;  // 0 or an errno value
  using GrantCallback = std::function<void(uint64_t object, uint64_t waiter)>;

  // Of this host. `granted`: a waiter has its token; once for each wait that was not refused, cancelled, or
  // made needless by `lent`. `lent`: the count is here, waits are to be tried again; false: it cannot be
  // taken. `recalled`: to be ended by Return; where it is not lent any more, nothing.
  struct Callbacks {
    GrantCallback granted;
    std::function<bool(uint64_t object, uint32_t count)> lent;
    std::function<void(uint64_t object)> recalled;
    std::function<void(uint64_t object)> forgotten;
    // What this host knows of the count of a small one that it does not have: it + 1; 0: nothing.
    std::function<void(uint64_t object, uint32_t known)> known;
    SemaphoreShares::Callbacks shares;  // without `gathered` and `refused`
  };
  SemaphoreArbiter(Agent& agent, Callbacks callbacks);

  void Create(uint64_t object, uint32_t count);
  void Destroy(uint64_t object);  // who waits, waits for ever, as natively
  // `done` may be null, and is then never needed.
  void Post(uint64_t object, ErrorCallback done);  // EOVERFLOW, EINVAL (no such object)
  void PostTokens(uint64_t object, uint32_t count);
  // `waiter`: this host's name for it, never used twice; `process`: whose it is, 0 at home. `refused` runs
  // only with an error.
  void Wait(uint64_t object, uint64_t waiter, Incarnation process, ErrorCallback refused);  // EINVAL
  void TryWait(uint64_t object, uint64_t waiter, Incarnation process,
               ErrorCallback refused);  // EAGAIN, EINVAL
  // removed: no grant will come. Otherwise it came before this answer.
  void Cancel(uint64_t object, uint64_t waiter, std::function<void(bool removed)> done);
  void GetValue(uint64_t object, std::function<void(int error, int value)> done);
  void Return(uint64_t object, uint32_t count);
  // Neither grant nor refusal of that wait is expected any more: `lent` made it needless.
  void Dismiss(uint64_t waiter);
  // This host's part of a large count; nullptr: it has none.
  wire::SemaphoreShare* Part(uint64_t object) { return shares_.Part(object); }
  void BeforeSend(HostId to) {
    shares_.BeforeSend();
    news_.BeforeSend(to);
  }
  void ReturnParts() { shares_.ReturnAll(); }
  // Home: its waiters leave the queues.
  void ForgetHost(HostId host);

 private:
  using Operation = wire::SemaphoreRequest::Operation;
  using Answer = std::function<void(int error, uint32_t value)>;
  struct Waiter {
    HostId host;
    uint64_t waiter;
    Incarnation process;
  };
  struct HeldBack {
    HostId from;
    std::function<void()> again;
  };
  struct Semaphore {
    uint32_t count = 0;
    std::deque<Waiter> waiting;
    LeaseHistory history;
    bool lent = false;
    bool recalled = false;
    bool shared = false;
    HostId lessee = 0;
    std::deque<HeldBack> held_back;
    std::unordered_map<HostId, uint64_t> posts;  // of each worker, ever
  };
  struct Outcome {
    int error = 0;
    uint32_t value = 0;
  };

  // Requests of waits are odd, so that a grant finds what it makes needless.
  static uint64_t RequestOfWait(uint64_t waiter) { return 2 * waiter + 1; }
  void Ask(Operation operation, uint64_t object, uint64_t argument, Answer answer);
  void AskToPost(uint64_t object, uint32_t count, Answer answer);
  void AskToWait(Operation operation, uint64_t object, uint64_t waiter, Incarnation process,
                 ErrorCallback refused);
  Outcome Act(HostId from, Operation operation, uint64_t object, uint64_t argument, Incarnation process = 0);
  bool IsDying(Incarnation process) const;
  wire::SemaphoreNow Look(uint64_t object, HostId host) const;
  void Changed(uint64_t object);
  void Learn(const wire::SemaphoreNow& now);
  int PostAt(uint64_t object, Semaphore& semaphore, uint64_t posts);
  Outcome ActOnPart(HostId from, Operation operation, uint64_t object, uint64_t argument,
                    Incarnation process);
  bool IsApart(HostId from, const wire::SemaphoreRequest& request, std::function<void()> again);
  void ShareOut(HostId from, uint64_t object, Semaphore& semaphore);
  void Gathered(uint64_t object, uint32_t count);
  void ReplayHeldBack(Semaphore& semaphore);
  bool IsAway(HostId from, const wire::SemaphoreRequest& request, std::function<void()> again);
  void Recall(uint64_t object, Semaphore& semaphore);
  void Used(HostId from, Operation operation, uint64_t object);
  void Lend(HostId to, uint64_t object, Semaphore& semaphore);
  void Returned(HostId from, uint64_t object, uint32_t count, bool refused);
  void OnOrder(const wire::SemaphoreRequest& order);
  void Grant(const Waiter& waiter, uint64_t object);
  void OnRequest(HostId from, const wire::SemaphoreRequest& request);
  void OnAnswer(const wire::SemaphoreAnswer& answer);

  Agent& agent_;
  const Callbacks callbacks_;
  SemaphoreShares shares_;
  SemaphoreNews news_;
  std::unordered_map<uint64_t, Semaphore> semaphores_;  // home
  std::unordered_map<uint64_t, Answer> unanswered_;     // worker, by request
  std::unordered_map<uint64_t, uint64_t> posted_;       // worker, by object: posts sent, ever
  uint64_t last_request_ = 0;
};

}  // namespace elsewhere::runtime
