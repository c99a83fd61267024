// Locks of files that no agent hears of: the kernel has them (flock, fcntl, lockf on a file that this process
// has opened itself), also for other hosts where these share its file system. What was done under such a
// lock, in memory and into pipes and sockets, is seen by who gets it next: before it is given up home has
// heard of it all, and behind it this host has heard of what home knows, a round trip each. A program that
// shares nothing with other hosts pays a load.
#pragma once

#include <stdio.h>

#include <atomic>
#include <cstdint>

#include "preload/agent.h"
#include "preload/self.h"

namespace elsewhere::preload {

// Descriptors through which locks were taken, a bit each; the last one stands for all that are larger.
inline constexpr int kLockNumbers = 1024;
extern constinit std::atomic<uint64_t> lock_numbers[kLockNumbers / 64];
extern constinit std::atomic<bool> has_kernel_locks;  // for good

inline bool HoldsKernelLocks() {
  return has_kernel_locks.load(std::memory_order_relaxed);
}
inline bool HoldsKernelLock(int fd) {
  if (!HoldsKernelLocks() || fd < 0) return false;
  const unsigned number = fd < kLockNumbers ? static_cast<unsigned>(fd) : kLockNumbers - 1;
  return (lock_numbers[number / 64].load(std::memory_order_relaxed) >> number % 64 & 1) != 0;
}
inline bool HoldsKernelLock(FILE* stream) {
  return HoldsKernelLocks() && HoldsKernelLock(fileno(stream));
}

// May locks of files order what this process shares with other hosts?
inline bool OrdersLocks() {
  const abi::Table* table = ConnectedTable();
  return OnWorker() || (table != nullptr && table->header.memory_shared.load(std::memory_order_relaxed) != 0);
}

// Around a call on locks. Async-signal-safe, keeps errno.
class KernelLock {
 public:
  enum class Kind { kUnlock, kShared, kExclusive };
  KernelLock(int fd, Kind kind);
  // Behind it; returns `result`, of the call.
  int Done(int result) const;

 private:
  const int fd_;
  const Kind kind_;
  const bool unseen_;  // no agent hears of the call itself
};

// `fd` is about to be closed.
void KernelLockCloses(int fd);
// This process ends.
void KernelLocksEnd();

}  // namespace elsewhere::preload
