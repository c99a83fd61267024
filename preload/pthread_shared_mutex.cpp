// Process-shared mutexes (shim/wire/shared_mutex.h).
//
// A robust mutex that is held natively hangs in the thread's robust list, the one that glibc registered with
// the kernel: its nodes lie in ours where they lie in glibc's, so both kinds may be in one list. Before each
// change the mutex is announced as pending, so that the kernel looks at it even if the thread dies between
// taking the lock and entering it into the list. When a mutex is promoted while it is held it stays in the
// list until its owner lets go of it; the kernel leaves promoted words alone.
#include <errno.h>
#include <linux/futex.h>

#include <iterator>

#include "preload/hooks.h"
#include "preload/ipc.h"
#include "preload/object_count.h"
#include "preload/pthread_shared.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using wire::Blocking;
using wire::Mutex;
using wire::SharedAction;
using wire::SharedDeadline;

constexpr char kForeign[] = "the program uses a process-shared pthread mutex that was made elsewhere";
constexpr char kProtocol[] = "the program uses a process-shared pthread mutex with a priority protocol";

// ---- The thread's robust list, by glibc's conventions: a node is a pair of pointers, previous and next, and
// pointers to it point at `next`; bit 0 marks mutexes of other protocols. ----

constexpr int kMostNodes = 2048;  // ROBUST_LIST_LIMIT of the kernel

robust_list_head* RobustList() {
  static constinit thread_local robust_list_head* head = nullptr;
  if (head == nullptr) {
    size_t size = 0;
    raw::Syscall(SYS_get_robust_list, 0, raw::Address(&head), raw::Address(&size));
  }
  return head;
}

void** NodeOf(void* pointer) {
  return reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(pointer) & ~uintptr_t{1});
}

class Announced {
 public:
  explicit Announced(Mutex* mutex) : head_((mutex->kind & wire::kMutexRobust) != 0 ? RobustList() : nullptr) {
    Set(&mutex->next);
  }
  ~Announced() { Set(nullptr); }

 private:
  void Set(void* node) {
    if (head_ == nullptr) return;
    __asm__ volatile("" ::: "memory");
    *reinterpret_cast<void* volatile*>(&head_->list_op_pending) = node;
    __asm__ volatile("" ::: "memory");
  }
  robust_list_head* const head_;
};

// Held by this thread, and not in its list.
void Enqueue(Mutex* mutex) {
  robust_list_head* head = RobustList();
  if (head == nullptr) return;
  void** first = NodeOf(head->list.next);
  first[-1] = &mutex->next;
  mutex->next = head->list.next;
  mutex->previous = head;
  __asm__ volatile("" ::: "memory");
  *reinterpret_cast<void* volatile*>(&head->list.next) = &mutex->next;
}

bool IsInList(const Mutex* mutex) {
  robust_list_head* head = RobustList();
  if (head == nullptr) return false;
  void** node = NodeOf(head->list.next);
  for (int i = 0; i < kMostNodes && node != reinterpret_cast<void**>(head); ++i) {
    if (node == &mutex->next) return true;
    node = NodeOf(*node);
  }
  return false;
}

void Dequeue(Mutex* mutex) {
  NodeOf(mutex->next)[-1] = mutex->previous;
  *NodeOf(mutex->previous) = mutex->next;
  __asm__ volatile("" ::: "memory");
  mutex->previous = nullptr;
  mutex->next = nullptr;
}

int LockRobust(Mutex* mutex, Blocking blocking, const SharedDeadline& deadline) {
  const Announced announced(mutex);
  const int result = wire::MutexLock(mutex, ThisThread(), blocking, deadline);
  // What a dead owner left in the node is no list any more.
  if (result == EOWNERDEAD) mutex->previous = mutex->next = nullptr;
  if ((result == 0 || result == EOWNERDEAD) && mutex->next == nullptr) Enqueue(mutex);
  return result;
}

int UnlockRobust(Mutex* mutex) {
  const Announced announced(mutex);
  if (wire::MutexIsHeldBy(mutex, ThisThread()) && wire::MutexIsLastLock(mutex) && mutex->next != nullptr)
    Dequeue(mutex);
  return wire::MutexUnlock(mutex, ThisThread());
}

// ---- Where this thread last found mutexes that this host has. That is compared, not computed: to find a
// cell by its name is a chain of loads and a multiplication, which cannot begin before the lock or unlock
// ahead of it is done and takes as long as they. ----

struct FoundLease {
  const Mutex* promoted;
  const abi::Table* table;
  Mutex* lease;
};
constinit thread_local FoundLease found_leases[4] = {};

inline FoundLease* FoundAt(const Mutex* promoted) {
  constexpr int kPlaceShift = 5;  // those of an array lie 40 bytes apart
  return &found_leases[reinterpret_cast<uintptr_t>(promoted) >> kPlaceShift & (std::size(found_leases) - 1)];
}

// A handler that interrupts this finds an entry that is no mutex's, or a whole one.
void NoteLease(const Mutex* promoted) {
  Mutex* lease = LeaseOf(promoted);
  if (lease == nullptr) return;
  FoundLease* found = FoundAt(promoted);
  found->promoted = nullptr;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  found->table = ConnectedTable();
  found->lease = lease;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  found->promoted = promoted;
}

// nullptr: it is to be looked for. A child inherits what its parent's threads remember, and another host's
// table may lie where this one's did: the cell itself must say whose it is.
inline Mutex* FoundLeaseOf(const Mutex* promoted) {
  const FoundLease* found = FoundAt(promoted);
  if (found->promoted != promoted || found->table != ConnectedTable()) return nullptr;
  Mutex* lease = found->lease;
  return ObjectOf(lease) == (ObjectOf(promoted) | wire::kSharedName) ? lease : nullptr;
}

int LockPromoted(Mutex* mutex, Blocking blocking, const SharedDeadline& deadline) {
  NoteLease(mutex);
  return Take(
      mutex, [&](Mutex* lease) { return wire::MutexLock(lease, ThisThread(), blocking, deadline); },
      [&](uint64_t object) {
        return AfterPromotedLock(
            mutex, ActOnLock(object, SharedAction::kLock, SharedAction::kTryLock, blocking, deadline));
      });
}

int UnlockPromoted(Mutex* mutex) {
  BeforePromotedUnlock(mutex);
  return Release(
      mutex, [](Mutex* lease) { return wire::MutexUnlock(lease, ThisThread()); },
      [mutex](uint64_t object) {
        // Only mutexes that ask for their owner have something to say.
        return wire::mutex_detail::IsChecked(mutex->kind) ? Act(object, SharedAction::kUnlock)
                                                          : ActUnheard(object, SharedAction::kUnlock);
      });
}

int Lock(Mutex* mutex, Blocking blocking, const SharedDeadline& deadline) {
  // Before a compare-exchange that would fail: they are what a lock costs.
  if (wire::IsPromoted(mutex)) return LockPromoted(mutex, blocking, deadline);
  const bool robust = (mutex->kind & wire::kMutexRobust) != 0;
  const int result = robust ? LockRobust(mutex, blocking, deadline)
                            : wire::MutexLock(mutex, ThisThread(), blocking, deadline);
  if (result != wire::kPromoted) [[likely]]
    return result;
  return LockPromoted(mutex, blocking, deadline);
}

// What most calls come to, without a call and so without a frame: a plain mutex that is free, here or where
// this host has it.
inline bool LockAtOnce(Mutex* mutex) {
  if (!wire::IsPlain(mutex) || CountsObjects()) return false;
  if (wire::IsPromoted(mutex)) mutex = FoundLeaseOf(mutex);
  const uint32_t thread = this_thread;
  return mutex != nullptr && thread != 0 && wire::MutexLockAtOnce(mutex, thread);
}

inline bool UnlockAtOnce(Mutex* mutex) {
  if (!wire::IsPlain(mutex) || CountsObjects()) return false;
  if (wire::IsPromoted(mutex)) mutex = !OnWorker() || OutputIsSent() ? FoundLeaseOf(mutex) : nullptr;
  return mutex != nullptr && wire::MutexUnlockAtOnce(mutex);
}

int LockCounted(Mutex* mutex, Blocking blocking, const SharedDeadline& deadline) {
  const Counted counted(abi::ObjectKind::kMutex, mutex);
  return Lock(mutex, blocking, deadline);
}

int Unlock(Mutex* mutex) {
  const bool robust = (mutex->kind & wire::kMutexRobust) != 0;
  const int result = robust ? UnlockRobust(mutex) : wire::MutexUnlock(mutex, ThisThread());
  if (result != wire::kPromoted) [[likely]]
    return result;
  return UnlockPromoted(mutex);
}

[[gnu::noinline]] int LockGiven(pthread_mutex_t* mutex) {
  if (wire::IsOurs(Ours(mutex))) return LockCounted(Ours(mutex), Blocking::kWait, {});
  NoteForeign(mutex, kForeign);
  return real::pthread_mutex_lock(mutex);
}

[[gnu::noinline]] int UnlockGiven(pthread_mutex_t* mutex) {
  if (!wire::IsOurs(Ours(mutex))) return real::pthread_mutex_unlock(mutex);
  const Counted counted(abi::ObjectKind::kMutex, mutex);
  return Unlock(Ours(mutex));
}

uint32_t FlagsOf(const pthread_mutexattr_t* attributes) {
  int type = PTHREAD_MUTEX_NORMAL, robust = PTHREAD_MUTEX_STALLED;
  pthread_mutexattr_gettype(attributes, &type);
  pthread_mutexattr_getrobust(attributes, &robust);
  uint32_t flags = wire::kMutexNormal;  // also PTHREAD_MUTEX_ADAPTIVE_NP, which spins
  if (type == PTHREAD_MUTEX_RECURSIVE) flags = wire::kMutexRecursive;
  if (type == PTHREAD_MUTEX_ERRORCHECK) flags = wire::kMutexErrorCheck;
  return flags | (robust == PTHREAD_MUTEX_ROBUST ? wire::kMutexRobust : 0);
}

}  // namespace

void BeforePromotedUnlock(Mutex* mutex) {
  if ((mutex->kind & wire::kMutexRobust) != 0 && mutex->next != nullptr && IsInList(mutex)) Dequeue(mutex);
}

int AfterPromotedLock(Mutex* mutex, int result) {
  if (result == EOWNERDEAD) mutex->previous = mutex->next = nullptr;
  return result;
}

int LockMutex(pthread_mutex_t* mutex) {
  return wire::IsOurs(Ours(mutex)) ? Lock(Ours(mutex), Blocking::kWait, {}) : real::pthread_mutex_lock(mutex);
}

int UnlockMutex(pthread_mutex_t* mutex) {
  return wire::IsOurs(Ours(mutex)) ? Unlock(Ours(mutex)) : real::pthread_mutex_unlock(mutex);
}

namespace hooks {

int pthread_mutex_init(pthread_mutex_t* mutex, const pthread_mutexattr_t* attributes) {
  int shared = PTHREAD_PROCESS_PRIVATE, protocol = PTHREAD_PRIO_NONE;
  if (attributes != nullptr) {
    pthread_mutexattr_getpshared(attributes, &shared);
    pthread_mutexattr_getprotocol(attributes, &protocol);
  }
  SharedPlace place;
  if (shared != PTHREAD_PROCESS_SHARED || !FindShared(mutex, wire::SharedKind::kMutex, &place))
    return real::pthread_mutex_init(mutex, attributes);
  if (protocol != PTHREAD_PRIO_NONE) {
    NoteForeign(mutex, kProtocol);
    return real::pthread_mutex_init(mutex, attributes);
  }
  const uint32_t flags = FlagsOf(attributes);
  wire::MutexInit(Ours(mutex), flags);
  const int64_t object = MakeShared(wire::SharedKind::kMutex, place, flags, 0);
  wire::SharedObjectState nothing;
  if (object > 0) wire::MutexPromote(Ours(mutex), static_cast<uint64_t>(object), &nothing);
  return object < 0 ? static_cast<int>(-object) : 0;
}

int pthread_mutex_destroy(pthread_mutex_t* mutex) {
  if (!wire::IsOurs(Ours(mutex))) return real::pthread_mutex_destroy(mutex);
  int result = wire::MutexDestroy(Ours(mutex));
  if (result != wire::kPromoted) return result;
  result = DestroyPromoted(ObjectOf(Ours(mutex)));
  if (result == 0) Ours(mutex)->kind = 0xffffffff;
  return result;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  return LockAtOnce(Ours(mutex)) ? 0 : LockGiven(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) {
  if (wire::IsOurs(Ours(mutex))) return LockCounted(Ours(mutex), Blocking::kTry, {});
  NoteForeign(mutex, kForeign);
  return real::pthread_mutex_trylock(mutex);
}

int pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* deadline) {
  if (wire::IsOurs(Ours(mutex))) return LockCounted(Ours(mutex), Blocking::kWait, {deadline, CLOCK_REALTIME});
  NoteForeign(mutex, kForeign);
  return real::pthread_mutex_timedlock(mutex, deadline);
}

int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* deadline) {
  if (!wire::IsOurs(Ours(mutex))) {
    NoteForeign(mutex, kForeign);
    return real::pthread_mutex_clocklock(mutex, clock, deadline);
  }
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  return LockCounted(Ours(mutex), Blocking::kWait, {deadline, clock});
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  return UnlockAtOnce(Ours(mutex)) ? 0 : UnlockGiven(mutex);
}

int pthread_mutex_consistent(pthread_mutex_t* mutex) {
  if (!wire::IsOurs(Ours(mutex))) return real::pthread_mutex_consistent(mutex);
  const int result = wire::MutexConsistent(Ours(mutex), ThisThread());
  return result == wire::kPromoted ? Act(Ours(mutex)->object.load(), SharedAction::kConsistent) : result;
}

}  // namespace hooks
}  // namespace elsewhere::preload
