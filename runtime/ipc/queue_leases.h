// Home: message queues that one worker alone uses are lent to it (runtime/ipc/README.md).
//
// A queue is home's kernel's, and deputies make the calls of processes elsewhere. After enough calls in a row
// from one host, among them sends and receives, what is in it goes to that host (lent_queues.h), and whoever
// asks for it there is told so. Whoever else asks, waits until it is back.
//
//   kHere      calls go to deputies; those that have not been answered are known
//   kClearing  about to be lent: its marks are set (so processes at home ask first), and the calls of its
//              host that wait at home are being called off; whoever else comes calls the lending off
//   kThere     lent: who asks from there is told, anybody else has it recalled
//   kRecalled  its host has been told to give it back
//   kReturning it is back, and not yet whole in home's queue
//
// Never lent: a queue that home's processes are in, or that was ever watched, or asked for a notification;
// one with a wait that has a limit; one that a process holds that does not ask us. Whoever opens one
// meanwhile (inotify tells) has it recalled.
//
// One that is here may have a host from which alone it is sent to, which need not wait for answers
// (sending_right.h, queue_rights.cpp). It is taken back before anybody else sends, and before the queue is
// lent.
//
// Thread-safety: one loop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/ipc/lease_history.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/kernel_message.h"
#include "shim/wire/lent_queue.h"

namespace elsewhere::runtime {

class QueueLeases {
 public:
  struct Home {
    std::function<void(uint64_t call)> call_off;                    // at its deputy
    std::function<void(HostId from, wire::KernelCall&& call)> ask;  // once more
    std::function<bool(int32_t deputy)> is_stopped;
    std::function<void(int queue)> sent;  // by a host that has the right to
  };
  QueueLeases(Agent& agent, Home home);
  ~QueueLeases();

  enum class Where {
    kHere,   // the deputy makes it, as `call`: Ended is told
    kThere,  // it is lent to the caller's host: `there` says more
    kHeld,   // it is asked again, when the queue is here
  };
  Where Ask(HostId from, int32_t deputy, uint64_t call, const wire::KernelCall& message,
            const abi::KernelCall& what, abi::LentQueue* there);
  // Of a call that is kHere: may its queue tell somebody of the next message (mq_notify), and so who sent it?
  bool MayNotify(uint64_t call);
  // Of a send that is kHere and was made: the right that its host has or gets; 0: none.
  uint64_t RightOf(uint64_t call);
  // For the next result that this host is told.
  std::vector<wire::QueueRoom> RoomsOf(HostId host);
  // A call that was kHere. True: it was called off for the queue's sake, its caller asks again.
  bool Ended(uint64_t call, int64_t result);
  // The caller of a call that is kHere got a signal; of one that is kHeld: true, and nothing was done.
  void Interrupted(uint64_t call);
  bool Withdraw(HostId from, uint64_t id);
  // True: the descriptor is of a queue that is not here; it will be when `then` runs.
  bool WaitUntilHere(int32_t deputy, int64_t descriptor, std::function<void()> then);
  // A stopped deputy does not end the calls that are called off.
  void DeputyStopped(int32_t deputy);
  void ProcessGone(Incarnation process);
  void HostGone(HostId host);
  // A process has ended, or closed one: what nobody has open any more is let go of.
  void LookForAbandoned();

 private:
  enum class State { kHere, kClearing, kThere, kRecalled, kReturning };
  struct Pending {
    HostId from = 0;
    int32_t deputy = 0;
    int64_t descriptor = -1;
    bool sends = false;
    bool limited = false;      // waits with a limit, or is no send or receive
    bool called_off = false;   // by us
    bool interrupted = false;  // by its caller
  };
  struct Held {
    HostId from = 0;
    wire::KernelCall message;
  };
  struct Queue {
    uint64_t inode = 0;
    State state = State::kHere;
    LeaseHistory history;
    uint32_t home_uses = 0;  // as the cell had it last
    HostId user = 0;         // that used it last, and what it did in a row
    bool sent = false;
    bool received = false;
    bool alone = false;  // nobody holds it who does not ask us
    int watch = -1;
    HostId host = 0;
    uint64_t lease = 0;
    store::UniqueFd descriptor;  // since it was to be lent
    uint32_t room = 0;
    uint32_t capacity = 0;
    std::deque<wire::QueuedMessage> back;  // that have to go into home's queue
    LeaseHistory senders;
    uint32_t home_sends = 0;          // as the cell had them last
    HostId right_host = wire::kHome;  // that has the right to send, unless it is home
    uint64_t right = 0;
    bool right_ends = false;  // its host has been told so
    uint64_t arrived = 0;     // with this right
    uint64_t told = 0;        // how many it allows
    std::map<uint64_t, Pending> pending;
    std::deque<Held> held;
    std::vector<std::function<void()>> waiting;  // until all of it is here
  };

  Queue* Find(int32_t deputy, int64_t descriptor);
  abi::QueueCell* CellOf(uint64_t inode);
  void Used(Queue& queue, HostId from, int64_t number);
  void Pin(Queue& queue);
  bool IsThere(const Queue& queue, HostId from, const abi::KernelCall& what) const;
  bool Begin(Queue& queue, HostId to, const std::string& path);
  bool Open(Queue& queue, const std::string& path);
  bool IsAlone(Queue& queue, const std::string& path);
  bool Mark(Queue& queue, uint32_t mark, std::atomic<uint32_t> abi::QueueCell::*inside);
  void Lend(Queue& queue);
  void Fetch(Queue& queue);
  void OnReturn(HostId from, wire::QueueReturn&& message);
  void PutBack(Queue& queue);
  void Arrived(Queue& queue);
  void AskHeld(Queue& queue);
  // queue_rights.cpp
  void SentBy(Queue& queue, HostId from);
  Queue* FindRight(HostId host, uint64_t right);
  void OnSend(HostId from, wire::QueueSend&& message);
  void EndRight(Queue& queue);
  void RightEnded(Queue& queue);
  void OnHomeCall(CallId id, const Call& call);
  void SomebodyOpened();
  void ReadInotify();

  Agent& agent_;
  const Home home_;
  uint64_t device_ = 0;  // of this namespace's queues; 0: none was seen
  store::UniqueFd inotify_;
  std::unordered_map<uint64_t, std::unique_ptr<Queue>> queues_;  // by inode
  std::unordered_map<uint64_t, uint64_t> calls_;                 // that are kHere: their queue's inode
  std::unordered_map<int, uint64_t> watches_;
  std::vector<uint64_t> rights_;  // queues, by inode, to which a host has the right
  uint64_t last_lease_ = 0;
};

}  // namespace elsewhere::runtime
