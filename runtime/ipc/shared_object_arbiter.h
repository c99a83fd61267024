// The promoted process-shared pthread objects of a session: who holds them, who waits. Kept by home's agent,
// in memory (semaphore_arbiter.h says why not at the broker); free of I/O.
//
// Every request gets exactly one answer, at once or when it was waited for; one that waits can be cancelled,
// and is then answered too (ETIMEDOUT) if it still waited: so an answer says by itself what happened, and
// neither deadlines nor deaths race with a grant. Who waits for one object is served in the order in which
// the requests came, but for read-write locks, where readers come first as in glibc (or writers, in locks of
// the kind that prefers them).
//
// A condition variable and its mutex meet here, so waiting on both is one step: kWait puts the thread in the
// condition's queue and then unlocks; a signal moves it to the mutex's queue; the answer says that it holds
// the mutex again. A deadline only moves it there earlier. With a mutex that is not promoted the three steps
// of a native wait are made, kAwait with the sequence read before unlocking; a signal in between ends it.
//
// Death of an owner: robust mutexes go to the next with EOWNERDEAD; everything else stays held for ever, as
// POSIX has it. What a thread was given and did not live to hear of goes back (kReturn).
//
// Leases: a lock that one host's threads alone have asked for lately goes to that host with a grant, held by
// who got it and by nobody else: then no unlock of it can be on its way here. A condition variable goes when
// a signal leaves nobody waiting for it. What the lessee asked before it knew is not done here but answered
// wire::kNotDone,
// to be tried again there. What others ask waits for the lease to come back, in its order. Robust mutexes
// stay, since their owners' deaths must be known here; so does what has waiters elsewhere, and a mutex that
// threads in kWait are about to lock. A kWait that is over while its mutex is away is answered without it
// (wire::kLockHere).
//
// Thread-safety: none. Answers and orders may be given from within Act.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <unordered_map>

#include "runtime/ipc/lease_history.h"
#include "shim/wire/shared_message.h"
#include "shim/wire/shared_object.h"

namespace elsewhere::runtime {

class SharedObjectArbiter {
 public:
  using HostId = wire::HostId;
  using Request = wire::SharedRequest;
  using Answer = wire::SharedAnswer;
  using AnswerCallback = std::function<void(HostId to, const Answer& answer)>;

  // `dying`: a process on a worker was killed at home, so its death is known there before it happened:
  // whoever tries a robust mutex of its threads is answered when it has.
  using DyingCallback = std::function<bool(wire::Incarnation process)>;
  using OrderCallback = std::function<void(HostId to, const wire::SharedOrder& order)>;
  SharedObjectArbiter(AnswerCallback answer, DyingCallback dying, OrderCallback order);

  // The number of a new object; 0: there are no more of that kind.
  uint64_t Make(wire::SharedKind kind);
  // What promotion took on `host`. Before that every request about the object is EINVAL.
  void Begin(uint64_t object, wire::SharedKind kind, HostId host, const wire::SharedObjectState& state);

  void Act(HostId from, const Request& request);
  // Everybody there is dead.
  void HostGone(HostId host);

 private:
  struct Owner {
    HostId host = 0;
    uint32_t thread = 0;
    bool operator==(const Owner&) const = default;
  };
  struct Waiter {
    Owner who;
    wire::Incarnation process = 0;
    uint64_t request = 0;
    wire::SharedAction action{};
    uint64_t mutex = 0;  // of a kWait
    int error = 0;       // of a kWait whose time is over
  };
  struct HeldBack {
    HostId from;
    Request request;
  };
  struct Object {
    uint64_t number = 0;
    wire::SharedKind kind{};
    uint32_t flags = 0;
    uint32_t count = 0;  // as in SharedObjectState
    bool held = false;   // by `owner` alone
    Owner owner;
    wire::Incarnation owner_process = 0;
    bool owner_died = false;
    bool inconsistent = false;
    bool not_recoverable = false;
    std::deque<Waiter> waiting;
    LeaseHistory history;
    bool lent = false;
    bool recalled = false;
    HostId lessee = 0;
    std::deque<HeldBack> held_back;
    std::set<HostId> lessees;  // ever
  };

  void Reply(const Waiter& waiter, int error, uint64_t value = 0, bool watch = false);
  Object* Find(uint64_t object, wire::SharedKind kind);

  int ActOnMutex(Object& mutex, const Waiter& waiter);
  void Lock(Object& mutex, const Waiter& waiter);
  void LockAfterWait(Object& mutex, const Waiter& waiter);
  void GrantMutex(Object& mutex, const Waiter& waiter);
  int Unlock(Object& mutex, const Owner& who);
  void PassOn(Object& mutex);
  void ReturnMutex(Object& mutex, const Owner& who);
  void OwnerDied(const Owner& who);

  void ActOnReadWriteLock(Object& lock, const Waiter& waiter);
  bool MayRead(const Object& lock) const;
  void GrantReadWriteLock(Object& lock, const Waiter& waiter);
  bool ServeNext(Object& lock, wire::SharedAction action);
  void ServeReadWriteLock(Object& lock);
  int ReadWriteUnlock(Object& lock);

  void ActOnCondition(Object& condition, const Waiter& waiter, const Request& request);
  void Wake(Object& condition, bool everybody);

  void ActOnBarrier(Object& barrier, const Waiter& waiter);
  // In shared_object_leases.cpp.
  bool IsAway(Object& object, const Waiter& waiter, const Request& request);
  bool MayBeLent(const Object& lock, const Waiter& granted) const;
  void Lend(Object& object, const Waiter& to);
  void Recall(Object& object);
  void Returned(HostId from, const Request& request);
  void ForgetLeases(const Object& object);
  void LesseeGone(HostId host);

  void Destroy(uint64_t object, const Waiter& waiter);
  void Cancel(HostId from, const Request& request);
  bool CancelIn(Object& object, HostId from, uint64_t request, bool abandoned);

  const AnswerCallback answer_;
  const DyingCallback dying_;
  const OrderCallback order_;
  std::unordered_map<uint64_t, Object> objects_;
  uint64_t last_object_;
  uint32_t last_spin_lock_ = 0;
};

}  // namespace elsewhere::runtime
