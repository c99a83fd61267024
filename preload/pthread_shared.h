// Process-shared pthread objects: which are ours, and how their promoted ones are asked about.
//
// An object is ours (shim/wire/shared_object.h) if it was initialised with PTHREAD_PROCESS_SHARED in memory
// that processes share (memory.h). For the wrappers: one comparison, and a private object is libc's. What
// that comparison lets through beside ours are libc's own process-shared objects: in private memory, where
// nobody else has them; or in shared memory, made by somebody whom nobody saw, or of a protocol that exists
// on one host only (priority inheritance), and then this process's children stay at home.
#pragma once

#include <pthread.h>

#include "preload/agent.h"
#include "preload/memory.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/shared_action.h"
#include "shim/wire/shared_barrier.h"
#include "shim/wire/shared_condition.h"
#include "shim/wire/shared_lease.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::preload {

inline wire::Mutex* Ours(pthread_mutex_t* object) {
  return reinterpret_cast<wire::Mutex*>(object);
}
inline wire::Condition* Ours(pthread_cond_t* object) {
  return reinterpret_cast<wire::Condition*>(object);
}
inline wire::ReadWriteLock* Ours(pthread_rwlock_t* object) {
  return reinterpret_cast<wire::ReadWriteLock*>(object);
}
inline wire::Barrier* Ours(pthread_barrier_t* object) {
  return reinterpret_cast<wire::Barrier*>(object);
}
inline wire::SpinLock* Ours(pthread_spinlock_t* object) {
  return reinterpret_cast<wire::SpinLock*>(const_cast<int*>(object));
}

// The number of a promoted object; of spin locks it is wire::ObjectOf.
template <class Object>
uint64_t ObjectOf(const Object* promoted) {
  return promoted->object.load(std::memory_order_acquire);
}

inline bool MayBeOurs(pthread_mutex_t* object) {
  return (Ours(object)->kind & wire::kMutexSharedBit) != 0;
}
inline bool MayBeOurs(pthread_cond_t* object) {
  return (Ours(object)->flags & wire::kConditionShared) != 0;
}
inline bool MayBeOurs(pthread_rwlock_t* object) {
  return Ours(object)->shared != 0;
}
inline bool MayBeOurs(pthread_barrier_t* object) {
  return Ours(object)->shared != 0;
}
inline bool MayBeOurs(pthread_spinlock_t* object) {
  return wire::IsOurs(Ours(object));
}

// This thread, as the host's agent names it.
extern constinit thread_local uint32_t this_thread;  // 0: not known yet
uint32_t LookUpThisThread();
inline wire::SharedThread ThisThread() {
  const uint32_t known = this_thread;
  return {self.host.load(std::memory_order_relaxed), known != 0 ? known : LookUpThisThread()};
}
// After a fork in the child and after a restore: it has another number.
void ForgetThisThread();

// Of a process-shared object that is libc's: children stay at home if others may have it. Asked at each of
// its calls, so that it costs nothing where children stay anyway.
void LookAtForeign(const void* object, const char* reason);
inline void NoteForeign(const void* object, const char* reason) {
  if (self.fork_remote) LookAtForeign(object, reason);
}

// Where a new object lies; false: nobody else has that memory.
bool FindShared(const void* object, wire::SharedKind kind, SharedPlace* place);
// The new object's number, if it is to be promoted at once; 0: not; negative: an errno value. To be called
// when it is initialised already.
int64_t MakeShared(wire::SharedKind kind, const SharedPlace& place, uint32_t flags, uint32_t count);

inline bool MustSendFirst() {
  return OnWorker() && MayHaveUnsentOutput();
}
// Where this host has a promoted object; nullptr: home has it. One that it does not have any more is
// promoted.
template <class Object>
Object* LeaseOf(const Object* promoted) {
  return wire::LeaseOf<Object>(ConnectedTable(), ObjectOf(promoted) | wire::kSharedName);
}
inline wire::SpinLock* LeaseOf(const wire::SpinLock* promoted) {
  auto* lease = wire::LeaseOf<wire::LentSpinLock>(ConnectedTable(), ObjectOf(promoted) | wire::kSharedName);
  return lease != nullptr ? &lease->lock : nullptr;
}
// The same for who releases with it: nullptr also where what this process wrote must leave before others may
// go on, which the agent sees to.
template <class Object>
Object* LeaseToRelease(const Object* promoted) {
  Object* lease = LeaseOf(promoted);
  return lease == nullptr || wire::IsPromoted(lease) || MustSendFirst() ? nullptr : lease;
}
// 0 or an errno value, or wire::kNotDone and its like; keeps errno. `deadline` has been checked.
int Act(uint64_t object, wire::SharedAction action, uint64_t argument = 0,
        const wire::SharedDeadline& deadline = {}, uint64_t* value = nullptr);
// The same where there is nothing to hear: returns when it was sent.
int ActUnheard(uint64_t object, wire::SharedAction action);
// Waits for a lock: what POSIX says of a deadline that is no time is said only if it must be waited for.
int ActOnLock(uint64_t object, wire::SharedAction action, wire::SharedAction try_action,
              wire::Blocking blocking, const wire::SharedDeadline& deadline);
// An operation on a promoted object, where it is: `here` makes it on this host's, if that may be done, and
// may answer wire::kPromoted; `there` asks.
template <class Object, class Find, class Here, class There>
int ActWhereItIs(const Object* promoted, const Find& find, const Here& here, const There& there) {
  for (;;) {
    int result = wire::kPromoted;
    if (Object* lease = find(promoted)) result = here(lease);
    if (result != wire::kPromoted) return result;
    result = there(ObjectOf(promoted));
    if (result != wire::kNotDone) return result;
  }
}
template <class Object, class Here, class There>
int Take(const Object* promoted, const Here& here, const There& there) {
  return ActWhereItIs(
      promoted, [](auto* object) { return LeaseOf(object); }, here, there);
}
template <class Object, class Here, class There>
int Release(const Object* promoted, const Here& here, const There& there) {
  return ActWhereItIs(
      promoted, [](auto* object) { return LeaseToRelease(object); }, here, there);
}
// 0 or an errno value.
int DestroyPromoted(uint64_t object);

// For condition variables: a mutex of ours or libc's.
int LockMutex(pthread_mutex_t* mutex);
int UnlockMutex(pthread_mutex_t* mutex);
// The steps around an unlock and a lock of a promoted one that are made elsewhere.
void BeforePromotedUnlock(wire::Mutex* mutex);
int AfterPromotedLock(wire::Mutex* mutex, int result);

}  // namespace elsewhere::preload
