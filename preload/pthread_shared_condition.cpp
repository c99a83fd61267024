// Process-shared condition variables (shim/wire/shared_condition.h).
//
// If the condition and its mutex are both promoted, a wait is one request: home unlocks the mutex, waits and
// locks it again. Where this host has the condition (shim/wire/shared_lease.h) it is as good as native. A
// wait that comes while one of them changes its place ends without a signal, as POSIX permits. Every other
// mixture is made of the three steps, so a condition variable of any state works with a mutex of any state. A
// private condition variable of libc's cannot be used with a mutex of ours, whose bytes libc does not know:
// it becomes one of ours, that nobody promotes, when it is first waited on with one.
#include <errno.h>

#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/object_count.h"
#include "preload/pthread_shared.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

using wire::Condition;
using wire::Mutex;
using wire::SharedAction;
using wire::SharedDeadline;

constexpr char kForeign[] =
    "the program uses a process-shared pthread condition variable that was made elsewhere";
constexpr char kMixed[] = "the program waits on a private pthread condition variable in shared memory";

constexpr uint32_t kInsideLibc = ~uint32_t{3};  // of Condition::flags: glibc's number of waiters

// The caller holds the mutex, so nobody else does this now. False: somebody waits inside libc.
bool Adopt(pthread_cond_t* condition) {
  Condition* ours = Ours(condition);
  if ((ours->flags & kInsideLibc) != 0) return false;
  NoteForeign(condition, kMixed);
  wire::ConditionInit(ours, ours->flags & wire::kConditionMonotonic);
  return true;
}

struct Sleep {
  Condition* condition;
  pthread_mutex_t* mutex;
};

// A thread that is cancelled while it sleeps has the mutex again when its own cleanup handlers run.
void WhenCancelled(void* argument) {
  const auto* sleep = static_cast<Sleep*>(argument);
  wire::ConditionLeave(sleep->condition);
  LockMutex(sleep->mutex);
}

int SleepCancellable(Sleep* sleep, uint32_t sequence, const SharedDeadline& deadline) {
  int result = 0;
  int type = 0;
  pthread_cleanup_push(WhenCancelled, sleep);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  result = wire::ConditionSleep(sleep->condition, sequence, deadline);
  pthread_setcanceltype(type, nullptr);
  pthread_cleanup_pop(0);
  return result;
}

int WaitNative(Condition* condition, uint32_t sequence, pthread_mutex_t* mutex,
               const SharedDeadline& deadline) {
  if (const int error = UnlockMutex(mutex); error != 0) {
    wire::ConditionLeave(condition);
    return error;
  }
  Sleep sleep{condition, mutex};
  int result = SleepCancellable(&sleep, sequence, deadline);
  wire::ConditionLeave(condition);
  if (result == wire::kPromoted)
    result = Act(wire::NumberOf(condition), SharedAction::kAwait, sequence, deadline);
  if (result == wire::kNotDone) result = 0;
  const int locked = LockMutex(mutex);
  return locked != 0 ? locked : result;
}

bool IsHere(const Mutex* promoted) {
  const Mutex* lease = LeaseOf(promoted);
  return lease != nullptr && !wire::IsPromoted(lease);
}

int WaitPromoted(Condition* condition, pthread_mutex_t* given, const SharedDeadline& deadline) {
  Mutex* mutex = Ours(given);
  const uint64_t object = condition->object.load();
  if (wire::IsOurs(mutex) && wire::IsPromoted(mutex) && !IsHere(mutex)) {
    BeforePromotedUnlock(mutex);
    const int result = Act(object, SharedAction::kWait, mutex->object.load(), deadline);
    if (result == wire::kNotDone) return 0;
    if (result != wire::kLockHere && result != wire::kLockHereTimedOut)
      return AfterPromotedLock(mutex, result);
    const int locked = LockMutex(given);
    return locked == 0 && result == wire::kLockHereTimedOut ? ETIMEDOUT : locked;
  }
  uint64_t sequence = 0;
  const int asked = Act(object, SharedAction::kGetSequence, 0, {}, &sequence);
  if (asked == wire::kNotDone) return 0;
  if (asked != 0) return asked;
  if (const int error = UnlockMutex(given); error != 0) return error;
  const int result = Act(object, SharedAction::kAwait, sequence, deadline);
  const int locked = LockMutex(given);
  return locked != 0 || result == wire::kNotDone ? locked : result;
}

int Wait(pthread_cond_t* given, pthread_mutex_t* mutex, const SharedDeadline& deadline) {
  if (!deadline.IsValid()) return EINVAL;
  if (!wire::IsOurs(Ours(given)) && !Adopt(given)) return EINVAL;
  pthread_testcancel();
  Condition* condition = Ours(given);
  const Counted counted(abi::ObjectKind::kCondition, condition);
  uint32_t sequence = 0;
  if (wire::ConditionEnter(condition, &sequence)) return WaitNative(condition, sequence, mutex, deadline);
  Condition* lease = LeaseOf(condition);
  if (lease != nullptr && wire::ConditionEnter(lease, &sequence))
    return WaitNative(lease, sequence, mutex, deadline);
  return WaitPromoted(condition, mutex, deadline);
}

// Libc's own, process-shared or private, with a mutex of libc's.
bool IsLibcs(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  if (wire::IsOurs(Ours(condition)) || wire::IsOurs(Ours(mutex))) return false;
  if (MayBeOurs(condition)) NoteForeign(condition, kForeign);
  return true;
}

int Signal(Condition* condition, bool everybody) {
  const Counted counted(abi::ObjectKind::kCondition, condition);
  if (wire::ConditionSignal(condition, everybody) != wire::kPromoted) return 0;
  if (Condition* lease = LeaseToRelease(condition);
      lease != nullptr && wire::ConditionSignal(lease, everybody) != wire::kPromoted)
    return 0;
  return ActUnheard(condition->object.load(), everybody ? SharedAction::kBroadcast : SharedAction::kSignal);
}

}  // namespace

namespace hooks {

int pthread_cond_init(pthread_cond_t* condition, const pthread_condattr_t* attributes) {
  int shared = PTHREAD_PROCESS_PRIVATE;
  clockid_t clock = CLOCK_REALTIME;
  if (attributes != nullptr) {
    pthread_condattr_getpshared(attributes, &shared);
    pthread_condattr_getclock(attributes, &clock);
  }
  SharedPlace place;
  if (shared != PTHREAD_PROCESS_SHARED || !FindShared(condition, wire::SharedKind::kCondition, &place))
    return real::pthread_cond_init(condition, attributes);
  const uint32_t flags = clock == CLOCK_MONOTONIC ? wire::kConditionMonotonic : 0;
  wire::ConditionInit(Ours(condition), flags);
  const int64_t object = MakeShared(wire::SharedKind::kCondition, place, flags, 0);
  wire::SharedObjectState nothing;
  if (object > 0) wire::ConditionPromote(Ours(condition), static_cast<uint64_t>(object), &nothing);
  return object < 0 ? static_cast<int>(-object) : 0;
}

int pthread_cond_destroy(pthread_cond_t* condition) {
  Condition* ours = Ours(condition);
  if (!wire::IsOurs(ours)) return real::pthread_cond_destroy(condition);
  const int result = wire::ConditionDestroy(ours);
  if (result != wire::kPromoted) return result;
  DestroyPromoted(ObjectOf(ours));
  ours->magic.store(0, std::memory_order_relaxed);
  ours->flags = 0;
  return 0;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  if (IsLibcs(condition, mutex)) return real::pthread_cond_wait(condition, mutex);
  return Wait(condition, mutex, {});
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* deadline) {
  if (IsLibcs(condition, mutex)) return real::pthread_cond_timedwait(condition, mutex, deadline);
  const bool monotonic = (Ours(condition)->flags & wire::kConditionMonotonic) != 0;
  return Wait(condition, mutex, {deadline, monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME});
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* deadline) {
  if (IsLibcs(condition, mutex)) return real::pthread_cond_clockwait(condition, mutex, clock, deadline);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  return Wait(condition, mutex, {deadline, clock});
}

int pthread_cond_signal(pthread_cond_t* condition) {
  if (wire::IsOurs(Ours(condition))) return Signal(Ours(condition), false);
  return real::pthread_cond_signal(condition);
}

int pthread_cond_broadcast(pthread_cond_t* condition) {
  if (wire::IsOurs(Ours(condition))) return Signal(Ours(condition), true);
  return real::pthread_cond_broadcast(condition);
}

}  // namespace hooks
}  // namespace elsewhere::preload
