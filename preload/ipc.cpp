#include "preload/ipc.h"

#include <atomic>

#include "preload/lent_queue.h"
#include "preload/memory.h"
#include "preload/pthread_shared.h"
#include "preload/stream.h"

namespace elsewhere::preload {
namespace {

constinit std::atomic<const char*> reason_to_stay{nullptr};

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
  ResetStreamNumbers();
  ForgetThisThread();
}

void IpcAfterRestore() {
  MemoryAfterRestore();
  ForgetThisThread();
  ForgetLentQueues();
}

}  // namespace elsewhere::preload
