#include "preload/kernel_lock.h"

#include <errno.h>

#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/output_file.h"
#include "preload/stream.h"

namespace elsewhere::preload {

constinit std::atomic<uint64_t> lock_numbers[kLockNumbers / 64] = {};
constinit std::atomic<bool> has_kernel_locks{false};

namespace {

unsigned NumberOf(int fd) {
  return fd < kLockNumbers ? static_cast<unsigned>(fd) : kLockNumbers - 1;
}

bool SharesMemory() {
  const abi::Table* table = ConnectedTable();
  return table != nullptr && table->header.memory_shared.load(std::memory_order_relaxed) != 0;
}

void FenceWithHome() {
  const int before = errno;
  CallAgent(abi::Operation::kFence, {abi::kFenceHome});
  errno = before;
}

void BeforeRelease(bool unseen) {
  if ((unseen && SharesMemory()) || (OnWorker() && MayHaveUnsentOutput())) FenceWithHome();
}

}  // namespace

// A shared lock may take an exclusive one's place.
KernelLock::KernelLock(int fd, Kind kind)
    : fd_(fd), kind_(kind), unseen_(!IsOutputFile(fd) && !IsMappedFile(fd)) {
  if (kind != Kind::kExclusive) BeforeRelease(unseen_);
}

// At home everything is that home knows.
int KernelLock::Done(int result) const {
  if (result != 0 || !unseen_ || kind_ == Kind::kUnlock) return result;
  const unsigned number = NumberOf(fd_);
  lock_numbers[number / 64].fetch_or(uint64_t{1} << number % 64, std::memory_order_relaxed);
  has_kernel_locks.store(true, std::memory_order_relaxed);
  if (OnWorker() && SharesMemory()) FenceWithHome();
  return result;
}

void KernelLockCloses(int fd) {
  if (InVforkChild()) return;
  BeforeRelease(true);
  if (fd < kLockNumbers - 1)
    lock_numbers[NumberOf(fd) / 64].fetch_and(~(uint64_t{1} << NumberOf(fd) % 64), std::memory_order_relaxed);
}

void KernelLocksEnd() {
  if (!HoldsKernelLocks() || InVforkChild()) return;
  for (const auto& numbers : lock_numbers) {
    if (numbers.load(std::memory_order_relaxed) == 0) continue;
    return BeforeRelease(true);
  }
}

// What exit leaves to libc: its locks go with the process.
__attribute__((destructor)) void LetGoAtExit() {
  KernelLocksEnd();
}

}  // namespace elsewhere::preload
