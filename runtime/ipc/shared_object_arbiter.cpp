#include "runtime/ipc/shared_object_arbiter.h"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "shim/wire/shared_lease.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::runtime {

using wire::SharedAction;
using wire::SharedKind;

namespace {

bool IsRobust(uint32_t flags) {
  return (flags & wire::kMutexRobust) != 0;
}

}  // namespace

SharedObjectArbiter::SharedObjectArbiter(AnswerCallback answer, DyingCallback dying, OrderCallback order)
    : answer_(std::move(answer)),
      dying_(std::move(dying)),
      order_(std::move(order)),
      last_object_(wire::kSpinLocks) {}

uint64_t SharedObjectArbiter::Make(SharedKind kind) {
  if (kind != SharedKind::kSpinLock) return ++last_object_;
  return last_spin_lock_ + 1 == wire::kSpinLocks ? 0 : ++last_spin_lock_;
}

void SharedObjectArbiter::Begin(uint64_t object, SharedKind kind, HostId host,
                                const wire::SharedObjectState& state) {
  Object& made = objects_[object];
  made.number = object;
  made.kind = kind;
  made.flags = state.flags;
  made.count = state.count;
  made.held = state.held;
  made.owner = {host, state.owner};
  made.owner_died = state.owner_died;
  made.inconsistent = state.inconsistent;
  made.not_recoverable = state.not_recoverable;
}

void SharedObjectArbiter::Reply(const Waiter& waiter, int error, uint64_t value, bool watch) {
  if (waiter.request != 0) answer_(waiter.who.host, Answer{waiter.request, error, value, watch});
}

SharedObjectArbiter::Object* SharedObjectArbiter::Find(uint64_t object, SharedKind kind) {
  const auto found = objects_.find(object);
  return found == objects_.end() || found->second.kind != kind ? nullptr : &found->second;
}

void SharedObjectArbiter::Act(HostId from, const Request& request) {
  const Waiter waiter{.who = {from, request.thread},
                      .process = request.process,
                      .request = request.request,
                      .action = request.action,
                      .mutex = request.argument};
  switch (request.action) {
    case SharedAction::kMake: {
      const auto kind = static_cast<SharedKind>(request.flags >> 32);
      const uint64_t object = Make(kind);
      wire::SharedObjectState state;
      state.flags = static_cast<uint32_t>(request.flags);
      state.count = static_cast<uint32_t>(request.argument);
      if (object != 0) Begin(object, kind, from, state);
      return Reply(waiter, object != 0 ? 0 : ENOSPC, object);
    }
    case SharedAction::kOwnerDied:
      OwnerDied(waiter.who);
      return Reply(waiter, 0);
    case SharedAction::kReturnLease:
      return Returned(from, request);
    default:
      break;
  }
  const auto found = objects_.find(request.object);
  if (found == objects_.end()) return Reply(waiter, EINVAL);
  Object& object = found->second;
  if (IsAway(object, waiter, request)) return;
  if (request.action == SharedAction::kCancel || request.action == SharedAction::kAbandon)
    return Cancel(from, request);
  if (request.action == SharedAction::kDestroy) return Destroy(request.object, waiter);
  object.history.Used(from);
  switch (object.kind) {
    case SharedKind::kMutex:
    case SharedKind::kSpinLock:
      if (request.action == SharedAction::kLock || request.action == SharedAction::kTryLock)
        return Lock(object, waiter);
      return Reply(waiter, ActOnMutex(object, waiter));
    case SharedKind::kReadWriteLock:
      return ActOnReadWriteLock(object, waiter);
    case SharedKind::kCondition:
      return ActOnCondition(object, waiter, request);
    case SharedKind::kBarrier:
      return ActOnBarrier(object, waiter);
  }
}

// ---- Mutexes and spin locks ----

int SharedObjectArbiter::ActOnMutex(Object& mutex, const Waiter& waiter) {
  switch (waiter.action) {
    case SharedAction::kUnlock:
      return Unlock(mutex, waiter.who);
    case SharedAction::kConsistent:
      if (!IsRobust(mutex.flags) || !mutex.inconsistent || mutex.owner != waiter.who) return EINVAL;
      mutex.inconsistent = false;
      return 0;
    case SharedAction::kReturn:
      ReturnMutex(mutex, waiter.who);
      return 0;
    default:
      return EINVAL;
  }
}

void SharedObjectArbiter::Lock(Object& mutex, const Waiter& waiter) {
  if (mutex.not_recoverable) return Reply(waiter, ENOTRECOVERABLE);
  if (!mutex.held) return GrantMutex(mutex, waiter);
  const uint32_t type = mutex.flags & wire::kMutexType;
  const bool tries = waiter.action == SharedAction::kTryLock;
  if (mutex.owner == waiter.who && type == wire::kMutexRecursive) {
    if (mutex.count == wire::mutex_detail::kCount) return Reply(waiter, EAGAIN);
    ++mutex.count;
    return Reply(waiter, 0);
  }
  // As mutex_detail::LockAgain.
  if (mutex.owner == waiter.who && type == wire::kMutexErrorCheck && (!tries || IsRobust(mutex.flags)))
    return Reply(waiter, EDEADLK);
  const bool dying = IsRobust(mutex.flags) && mutex.owner_process != 0 && dying_(mutex.owner_process);
  if (tries && !dying) return Reply(waiter, EBUSY);
  mutex.waiting.push_back(waiter);
}

void SharedObjectArbiter::GrantMutex(Object& mutex, const Waiter& waiter) {
  mutex.held = true;
  mutex.owner = waiter.who;
  mutex.owner_process = waiter.process;
  mutex.count = 0;
  int error = waiter.error;
  if (std::exchange(mutex.owner_died, false)) {
    mutex.inconsistent = true;
    error = EOWNERDEAD;
  }
  if (MayBeLent(mutex, waiter)) Lend(mutex, waiter);
  Reply(waiter, error, 0, IsRobust(mutex.flags));
}

// Of a kWait that is over.
void SharedObjectArbiter::LockAfterWait(Object& mutex, const Waiter& waiter) {
  if (!mutex.lent) return Lock(mutex, waiter);
  Reply(waiter, waiter.error == 0 ? wire::kLockHere : wire::kLockHereTimedOut);
}

int SharedObjectArbiter::Unlock(Object& mutex, const Owner& who) {
  if (wire::mutex_detail::IsChecked(mutex.flags) && (!mutex.held || mutex.owner != who)) return EPERM;
  if (mutex.count > 0) {
    --mutex.count;
    return 0;
  }
  if (mutex.inconsistent) {
    mutex.not_recoverable = true;
    mutex.inconsistent = false;
  }
  PassOn(mutex);
  return 0;
}

// To whoever waits longest.
void SharedObjectArbiter::PassOn(Object& mutex) {
  mutex.held = false;
  mutex.count = 0;
  if (mutex.not_recoverable) {
    for (const Waiter& waiter : std::exchange(mutex.waiting, {})) Reply(waiter, ENOTRECOVERABLE);
    return;
  }
  if (mutex.waiting.empty()) return;
  const Waiter next = mutex.waiting.front();
  mutex.waiting.pop_front();
  GrantMutex(mutex, next);
}

// As if it had not been given to it.
void SharedObjectArbiter::ReturnMutex(Object& mutex, const Owner& who) {
  if (!mutex.held || mutex.owner != who) return;
  if (mutex.count > 0) {
    --mutex.count;
    return;
  }
  if (std::exchange(mutex.inconsistent, false)) mutex.owner_died = true;
  PassOn(mutex);
}

void SharedObjectArbiter::OwnerDied(const Owner& who) {
  for (auto& [id, object] : objects_) {
    if (object.kind != SharedKind::kMutex || !IsRobust(object.flags) || !object.held || object.owner != who)
      continue;
    object.inconsistent = false;
    object.owner_died = true;
    PassOn(object);
  }
}

// ---- Read-write locks ----

bool SharedObjectArbiter::MayRead(const Object& lock) const {
  if (lock.held) return false;
  if (lock.flags != wire::kReadWritePrefersWriters) return true;
  return std::none_of(lock.waiting.begin(), lock.waiting.end(),
                      [](const Waiter& waiter) { return waiter.action == SharedAction::kWriteLock; });
}

void SharedObjectArbiter::ActOnReadWriteLock(Object& lock, const Waiter& waiter) {
  switch (waiter.action) {
    case SharedAction::kReadLock:
    case SharedAction::kTryReadLock:
      if (MayRead(lock)) return GrantReadWriteLock(lock, waiter);
      if (waiter.action == SharedAction::kTryReadLock) return Reply(waiter, EBUSY);
      break;
    case SharedAction::kWriteLock:
    case SharedAction::kTryWriteLock:
      if (!lock.held && lock.count == 0) return GrantReadWriteLock(lock, waiter);
      if (waiter.action == SharedAction::kTryWriteLock) return Reply(waiter, EBUSY);
      break;
    case SharedAction::kReadWriteUnlock:
    case SharedAction::kReturn:
      return Reply(waiter, ReadWriteUnlock(lock));
    default:
      return Reply(waiter, EINVAL);
  }
  if (lock.held && lock.owner == waiter.who) return Reply(waiter, EDEADLK);
  lock.waiting.push_back(waiter);
}

int SharedObjectArbiter::ReadWriteUnlock(Object& lock) {
  if (lock.held) {
    lock.held = false;
  } else if (lock.count > 0) {
    --lock.count;
  } else {
    return EPERM;
  }
  ServeReadWriteLock(lock);
  return 0;
}

void SharedObjectArbiter::GrantReadWriteLock(Object& lock, const Waiter& waiter) {
  if (waiter.action == SharedAction::kWriteLock || waiter.action == SharedAction::kTryWriteLock) {
    lock.held = true;
    lock.owner = waiter.who;
  } else {
    ++lock.count;
  }
  if (MayBeLent(lock, waiter)) Lend(lock, waiter);
  Reply(waiter, 0);
}

// Whoever waits longest for this. False: nobody does.
bool SharedObjectArbiter::ServeNext(Object& lock, SharedAction action) {
  const auto found = std::find_if(lock.waiting.begin(), lock.waiting.end(),
                                  [action](const Waiter& waiter) { return waiter.action == action; });
  if (found == lock.waiting.end()) return false;
  const Waiter next = *found;
  lock.waiting.erase(found);
  GrantReadWriteLock(lock, next);
  return true;
}

// With a grant it may have gone to another host.
void SharedObjectArbiter::ServeReadWriteLock(Object& lock) {
  while (!lock.lent && MayRead(lock) && ServeNext(lock, SharedAction::kReadLock)) {
  }
  if (!lock.lent && !lock.held && lock.count == 0) ServeNext(lock, SharedAction::kWriteLock);
}

// ---- Condition variables ----

void SharedObjectArbiter::ActOnCondition(Object& condition, const Waiter& waiter, const Request& request) {
  switch (request.action) {
    case SharedAction::kSignal:
    case SharedAction::kBroadcast:
      Wake(condition, request.action == SharedAction::kBroadcast);
      Reply(waiter, 0);
      if (condition.waiting.empty() && condition.history.Deserves(waiter.who.host)) Lend(condition, waiter);
      return;
    case SharedAction::kGetSequence:
      return Reply(waiter, 0, condition.count);
    case SharedAction::kAwait:
      if (condition.count != request.argument) return Reply(waiter, 0);
      condition.waiting.push_back(waiter);
      return;
    case SharedAction::kWait: {
      Object* mutex = Find(request.argument, SharedKind::kMutex);
      if (mutex == nullptr) return Reply(waiter, EINVAL);
      if (mutex->lent) return Reply(waiter, EPERM);  // then the caller does not hold it
      condition.waiting.push_back(waiter);
      const int error = Unlock(*mutex, waiter.who);
      if (error == 0) return;
      condition.waiting.pop_back();
      return Reply(waiter, error);
    }
    default:
      return Reply(waiter, EINVAL);
  }
}

void SharedObjectArbiter::Wake(Object& condition, bool everybody) {
  condition.count = (condition.count + 1) & 0x7fffffff;  // as the native word counts
  size_t left = everybody ? condition.waiting.size() : std::min<size_t>(1, condition.waiting.size());
  for (; left > 0; --left) {
    const Waiter waiter = condition.waiting.front();
    condition.waiting.pop_front();
    if (waiter.action == SharedAction::kAwait) {
      Reply(waiter, 0);
    } else if (Object* mutex = Find(waiter.mutex, SharedKind::kMutex)) {
      LockAfterWait(*mutex, waiter);
    } else {
      Reply(waiter, EINVAL);
    }
  }
}

// ---- Barriers ----

void SharedObjectArbiter::ActOnBarrier(Object& barrier, const Waiter& waiter) {
  if (waiter.action == SharedAction::kReturn) return;
  if (waiter.action != SharedAction::kBarrierWait) return Reply(waiter, EINVAL);
  barrier.waiting.push_back(waiter);
  if (barrier.waiting.size() < barrier.count) return;
  const auto arrived = std::exchange(barrier.waiting, {});
  for (const Waiter& one : arrived) Reply(one, 0, one.request == waiter.request && one.who == waiter.who);
}

// ---- Ends ----

void SharedObjectArbiter::Destroy(uint64_t object, const Waiter& waiter) {
  const auto found = objects_.find(object);
  if (found == objects_.end()) return Reply(waiter, EINVAL);
  const Object& made = found->second;
  const bool locked = made.kind == SharedKind::kReadWriteLock
                          ? made.held || made.count > 0
                          : made.kind == SharedKind::kMutex && made.held && !IsRobust(made.flags);
  if (locked) return Reply(waiter, EBUSY);
  ForgetLeases(made);
  objects_.erase(found);
  Reply(waiter, 0);
}

void SharedObjectArbiter::Cancel(HostId from, const Request& request) {
  const bool abandoned = request.action == SharedAction::kAbandon;
  const auto found = objects_.find(request.object);
  if (found == objects_.end()) return;
  if (CancelIn(found->second, from, request.argument, abandoned)) return;
  // A kWait that was signalled waits for its mutex, whatever its deadline; only death takes it away.
  if (found->second.kind != SharedKind::kCondition || !abandoned) return;
  if (Object* mutex = Find(request.flags, SharedKind::kMutex))
    CancelIn(*mutex, from, request.argument, abandoned);
}

bool SharedObjectArbiter::CancelIn(Object& object, HostId from, uint64_t request, bool abandoned) {
  const auto found = std::find_if(object.waiting.begin(), object.waiting.end(), [&](const Waiter& waiter) {
    return waiter.who.host == from && waiter.request == request;
  });
  if (found == object.waiting.end()) return false;
  Waiter waiter = *found;
  object.waiting.erase(found);
  Object* mutex =
      waiter.action == SharedAction::kWait && !abandoned ? Find(waiter.mutex, SharedKind::kMutex) : nullptr;
  if (mutex != nullptr) {
    waiter.error = ETIMEDOUT;
    LockAfterWait(*mutex, waiter);
  } else {
    Reply(waiter, abandoned ? ECANCELED : ETIMEDOUT);
  }
  if (object.kind == SharedKind::kReadWriteLock) ServeReadWriteLock(object);
  return true;
}

void SharedObjectArbiter::HostGone(HostId host) {
  LesseeGone(host);
  for (auto& [id, object] : objects_) {
    std::erase_if(object.waiting, [host](const Waiter& waiter) { return waiter.who.host == host; });
    if (object.kind == SharedKind::kReadWriteLock) ServeReadWriteLock(object);
  }
  for (auto& [id, object] : objects_) {
    if (object.kind != SharedKind::kMutex || !object.held || object.owner.host != host) continue;
    if (IsRobust(object.flags)) OwnerDied(object.owner);
  }
}

}  // namespace elsewhere::runtime
