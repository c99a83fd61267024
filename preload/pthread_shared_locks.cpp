// Process-shared read-write locks, barriers and spin locks (shim/wire/shared_*.h).
#include <errno.h>

#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/object_count.h"
#include "preload/pthread_shared.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

using wire::Blocking;
using wire::SharedAction;
using wire::SharedDeadline;
using wire::SharedKind;

constexpr char kForeignLock[] =
    "the program uses a process-shared pthread read-write lock that was made elsewhere";
constexpr char kForeignBarrier[] =
    "the program uses a process-shared pthread barrier that was made elsewhere";

int Read(wire::ReadWriteLock* lock, Blocking blocking, const SharedDeadline& deadline) {
  const Counted counted(abi::ObjectKind::kReadWriteLock, lock);
  const auto here = [&](wire::ReadWriteLock* at) {
    return wire::ReadLock(at, ThisThread(), blocking, deadline);
  };
  const int result = here(lock);
  if (result != wire::kPromoted) return result;
  return Take(lock, here, [&](uint64_t object) {
    return ActOnLock(object, SharedAction::kReadLock, SharedAction::kTryReadLock, blocking, deadline);
  });
}

int Write(wire::ReadWriteLock* lock, Blocking blocking, const SharedDeadline& deadline) {
  const Counted counted(abi::ObjectKind::kReadWriteLock, lock);
  const auto here = [&](wire::ReadWriteLock* at) {
    return wire::WriteLock(at, ThisThread(), blocking, deadline);
  };
  const int result = here(lock);
  if (result != wire::kPromoted) return result;
  return Take(lock, here, [&](uint64_t object) {
    return ActOnLock(object, SharedAction::kWriteLock, SharedAction::kTryWriteLock, blocking, deadline);
  });
}

bool IsClock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}

// True: libc's.
bool IsLibcs(pthread_rwlock_t* lock) {
  if (wire::IsOurs(Ours(lock))) return false;
  NoteForeign(lock, kForeignLock);
  return true;
}

int WaitAtAgent(wire::Barrier* barrier) {
  uint64_t last = 0;
  const int error = Act(barrier->object.load(), SharedAction::kBarrierWait, 0, {}, &last);
  if (error != 0) return error;
  return last != 0 ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}

int Spin(wire::SpinLock* lock, Blocking blocking) {
  const Counted counted(abi::ObjectKind::kSpinLock, lock);
  const auto here = [blocking](wire::SpinLock* at) { return wire::SpinLockNow(at, blocking); };
  const int result = here(lock);
  if (result != wire::kPromoted) return result;
  return Take(lock, here, [blocking](uint64_t object) {
    return Act(object, blocking == Blocking::kTry ? SharedAction::kTryLock : SharedAction::kLock);
  });
}

}  // namespace

namespace hooks {

// ---- Read-write locks ----

int pthread_rwlock_init(pthread_rwlock_t* lock, const pthread_rwlockattr_t* attributes) {
  int shared = PTHREAD_PROCESS_PRIVATE, kind = 0;
  if (attributes != nullptr) {
    pthread_rwlockattr_getpshared(attributes, &shared);
    pthread_rwlockattr_getkind_np(attributes, &kind);
  }
  SharedPlace place;
  if (shared != PTHREAD_PROCESS_SHARED || !FindShared(lock, SharedKind::kReadWriteLock, &place))
    return real::pthread_rwlock_init(lock, attributes);
  const auto flags = static_cast<uint32_t>(kind);
  wire::ReadWriteInit(Ours(lock), flags);
  const int64_t object = MakeShared(SharedKind::kReadWriteLock, place, flags, 0);
  wire::SharedObjectState nothing;
  if (object > 0) wire::ReadWritePromote(Ours(lock), static_cast<uint64_t>(object), &nothing);
  return object < 0 ? static_cast<int>(-object) : 0;
}

int pthread_rwlock_destroy(pthread_rwlock_t* lock) {
  if (!wire::IsOurs(Ours(lock))) return real::pthread_rwlock_destroy(lock);
  int result = wire::ReadWriteDestroy(Ours(lock));
  if (result != wire::kPromoted) return result;
  result = DestroyPromoted(ObjectOf(Ours(lock)));
  if (result != 0) return result;
  Ours(lock)->magic = 0;
  Ours(lock)->shared = 0;
  return 0;
}

int pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  return IsLibcs(lock) ? real::pthread_rwlock_rdlock(lock) : Read(Ours(lock), Blocking::kWait, {});
}

int pthread_rwlock_tryrdlock(pthread_rwlock_t* lock) {
  return IsLibcs(lock) ? real::pthread_rwlock_tryrdlock(lock) : Read(Ours(lock), Blocking::kTry, {});
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const timespec* deadline) {
  if (IsLibcs(lock)) return real::pthread_rwlock_timedrdlock(lock, deadline);
  return Read(Ours(lock), Blocking::kWait, {deadline, CLOCK_REALTIME});
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* deadline) {
  if (IsLibcs(lock)) return real::pthread_rwlock_clockrdlock(lock, clock, deadline);
  return IsClock(clock) ? Read(Ours(lock), Blocking::kWait, {deadline, clock}) : EINVAL;
}

int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  return IsLibcs(lock) ? real::pthread_rwlock_wrlock(lock) : Write(Ours(lock), Blocking::kWait, {});
}

int pthread_rwlock_trywrlock(pthread_rwlock_t* lock) {
  return IsLibcs(lock) ? real::pthread_rwlock_trywrlock(lock) : Write(Ours(lock), Blocking::kTry, {});
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const timespec* deadline) {
  if (IsLibcs(lock)) return real::pthread_rwlock_timedwrlock(lock, deadline);
  return Write(Ours(lock), Blocking::kWait, {deadline, CLOCK_REALTIME});
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock, const timespec* deadline) {
  if (IsLibcs(lock)) return real::pthread_rwlock_clockwrlock(lock, clock, deadline);
  return IsClock(clock) ? Write(Ours(lock), Blocking::kWait, {deadline, clock}) : EINVAL;
}

int pthread_rwlock_unlock(pthread_rwlock_t* lock) {
  if (!wire::IsOurs(Ours(lock))) return real::pthread_rwlock_unlock(lock);
  const Counted counted(abi::ObjectKind::kReadWriteLock, lock);
  const int result = wire::ReadWriteUnlock(Ours(lock));
  if (result != wire::kPromoted) return result;
  return Release(
      Ours(lock), [](wire::ReadWriteLock* lease) { return wire::ReadWriteUnlock(lease); },
      [](uint64_t object) { return ActUnheard(object, SharedAction::kReadWriteUnlock); });
}

// ---- Barriers ----

int pthread_barrier_init(pthread_barrier_t* barrier, const pthread_barrierattr_t* attributes,
                         unsigned count) {
  int shared = PTHREAD_PROCESS_PRIVATE;
  if (attributes != nullptr) pthread_barrierattr_getpshared(attributes, &shared);
  SharedPlace place;
  if (shared != PTHREAD_PROCESS_SHARED || count == 0 || count > INT32_MAX ||
      !FindShared(barrier, SharedKind::kBarrier, &place)) {
    return real::pthread_barrier_init(barrier, attributes, count);
  }
  wire::BarrierInit(Ours(barrier), count);
  const int64_t object = MakeShared(SharedKind::kBarrier, place, 0, count);
  wire::SharedObjectState nothing;
  if (object > 0) wire::BarrierPromote(Ours(barrier), static_cast<uint64_t>(object), &nothing);
  return object < 0 ? static_cast<int>(-object) : 0;
}

int pthread_barrier_destroy(pthread_barrier_t* barrier) {
  if (!wire::IsOurs(Ours(barrier))) return real::pthread_barrier_destroy(barrier);
  const int result = wire::BarrierDestroy(Ours(barrier));
  if (result != wire::kPromoted) return result;
  Act(Ours(barrier)->object.load(), SharedAction::kDestroy);
  Ours(barrier)->magic = 0;
  Ours(barrier)->shared = 0;
  return 0;
}

int pthread_barrier_wait(pthread_barrier_t* barrier) {
  if (!wire::IsOurs(Ours(barrier))) {
    NoteForeign(barrier, kForeignBarrier);
    return real::pthread_barrier_wait(barrier);
  }
  const Counted counted(abi::ObjectKind::kBarrier, barrier);
  const int result = wire::BarrierWait(Ours(barrier));
  return result == wire::kPromoted ? WaitAtAgent(Ours(barrier)) : result;
}

// ---- Spin locks ----

int pthread_spin_init(pthread_spinlock_t* lock, int shared) {
  SharedPlace place;
  const void* address = const_cast<int*>(lock);
  if (shared != PTHREAD_PROCESS_SHARED || !FindShared(address, SharedKind::kSpinLock, &place))
    return real::pthread_spin_init(lock, shared);
  wire::SpinInit(Ours(lock));
  const int64_t object = MakeShared(SharedKind::kSpinLock, place, 0, 0);
  wire::SharedObjectState nothing;
  if (object > 0) wire::SpinPromote(Ours(lock), static_cast<uint64_t>(object), &nothing);
  return object < 0 ? static_cast<int>(-object) : 0;
}

int pthread_spin_destroy(pthread_spinlock_t* lock) {
  if (wire::SpinDestroy(Ours(lock)) != wire::kPromoted) return 0;
  DestroyPromoted(ObjectOf(Ours(lock)));
  Ours(lock)->word.store(0);
  return 0;
}

int pthread_spin_lock(pthread_spinlock_t* lock) {
  return Spin(Ours(lock), Blocking::kWait);
}

int pthread_spin_trylock(pthread_spinlock_t* lock) {
  return Spin(Ours(lock), Blocking::kTry);
}

int pthread_spin_unlock(pthread_spinlock_t* lock) {
  const Counted counted(abi::ObjectKind::kSpinLock, const_cast<int*>(lock));
  if (wire::SpinUnlock(Ours(lock)) != wire::kPromoted) return 0;
  return Release(
      Ours(lock), [](wire::SpinLock* lease) { return wire::SpinUnlock(lease); },
      [](uint64_t object) { return ActUnheard(object, SharedAction::kUnlock); });
}

}  // namespace hooks
}  // namespace elsewhere::preload
