#include "preload/ipc.h"

#include <errno.h>
#include <pthread.h>

#include <atomic>

#include "preload/hooks.h"
#include "preload/memory.h"
#include "preload/real.h"

namespace elsewhere::preload {
namespace {

constinit std::atomic<const char*> reason_to_stay{nullptr};

// What the attribute says is all that can be known: the object itself may be anywhere, at any time.
int Noting(int result, int shared, const char* reason) {
  if (result == 0 && shared == PTHREAD_PROCESS_SHARED)
    reason_to_stay.store(reason, std::memory_order_relaxed);
  return result;
}

}  // namespace

const char* ReasonToStayHome() {
  return reason_to_stay.load(std::memory_order_relaxed);
}

void StayHome(const char* reason) {
  reason_to_stay.store(reason, std::memory_order_relaxed);
}

void IpcBeforeFork() {
  MemoryBeforeFork();
}

void IpcAfterForkInParent(int child) {
  MemoryAfterFork();
  if (child >= 0) named::AfterForkInParent(child);
}

void IpcAfterForkInChild(bool deputy) {
  MemoryAfterFork();
  named::AfterForkInChild(deputy);
}

void IpcAfterRestore() {
  MemoryAfterRestore();
}

namespace hooks {

int pthread_mutexattr_setpshared(pthread_mutexattr_t* attributes, int shared) {
  return Noting(real::pthread_mutexattr_setpshared(attributes, shared), shared,
                "the program uses a process-shared pthread mutex");
}

int pthread_condattr_setpshared(pthread_condattr_t* attributes, int shared) {
  return Noting(real::pthread_condattr_setpshared(attributes, shared), shared,
                "the program uses a process-shared pthread condition variable");
}

int pthread_rwlockattr_setpshared(pthread_rwlockattr_t* attributes, int shared) {
  return Noting(real::pthread_rwlockattr_setpshared(attributes, shared), shared,
                "the program uses a process-shared pthread read-write lock");
}

int pthread_barrierattr_setpshared(pthread_barrierattr_t* attributes, int shared) {
  return Noting(real::pthread_barrierattr_setpshared(attributes, shared), shared,
                "the program uses a process-shared pthread barrier");
}

int pthread_spin_init(pthread_spinlock_t* lock, int shared) {
  return Noting(real::pthread_spin_init(lock, shared), shared,
                "the program uses a process-shared pthread spin lock");
}

}  // namespace hooks
}  // namespace elsewhere::preload
