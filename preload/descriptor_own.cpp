// Descriptors of ours in the program's table, and the calls that would close or replace them.
//
// A program that closes "everything from 3 up" means its own. Ours sit high, are skipped by closefrom and
// close_range, and answer EBADF to everything else, as a number that was never opened. One that dup2 aims at
// moves out of the way.
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/message_queue.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

// All of ours lie in [own_low, own_high]; the bounds only widen.
constinit std::atomic<int> own_low = kDescriptorCount;
constinit std::atomic<int> own_high = -1;
constexpr int kRoom = 16;  // numbers that are left to us where the limit is low

int FirstOwnNumber() {
  rlimit limit{};
  if (raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit)) != 0)
    return abi::kFirstOwnDescriptor;
  if (limit.rlim_cur > abi::kFirstOwnDescriptor + kRoom) return abi::kFirstOwnDescriptor;
  return limit.rlim_cur > 2 * kRoom ? static_cast<int>(limit.rlim_cur) - kRoom : 3;
}

// The lowest number of ours in [first, last], or -1.
int LowestOwn(unsigned first, unsigned last) {
  const auto low = static_cast<unsigned>(own_low.load(std::memory_order_relaxed));
  const int high = own_high.load(std::memory_order_relaxed);
  for (unsigned fd = first > low ? first : low; fd <= last && static_cast<int>(fd) <= high; ++fd) {
    if (IsOwn(static_cast<int>(fd))) return static_cast<int>(fd);
  }
  return -1;
}

// Closes [first, last] but ours. `flags` as of close_range.
int CloseRange(unsigned first, unsigned last, int flags) {
  for (;;) {
    const int hole = LowestOwn(first, last);
    const unsigned end = hole < 0 ? last : static_cast<unsigned>(hole) - 1;
    if (hole < 0 || static_cast<unsigned>(hole) > first) {
      if (real::close_range(first, end, flags) != 0) return -1;
    }
    if (hole < 0 || static_cast<unsigned>(hole) == last) return 0;
    first = static_cast<unsigned>(hole) + 1;
  }
}

// A vfork child has a descriptor table of its own but its parent's memory: there, kinds stay as they are.
void Forget(int fd) {
  if (!IsKnown(fd) || IsOwn(fd) || InVforkChild()) return;
  if (IsMapped(fd)) {
    FileCloses(fd);
    return;
  }
  StreamCloses(fd);
  if (IsQueue(fd)) QueueCloses(fd);
  SetKind(fd, DescriptorKind::kNothing);
}

void ForgetRange(unsigned first, unsigned last) {
  for (unsigned fd = first; fd <= last && fd < kDescriptorCount; ++fd) Forget(static_cast<int>(fd));
}

// Before `fd` is given a new meaning: what is ours goes elsewhere, what was known is forgotten. False: no
// place.
bool MakeRoom(int fd) {
  Forget(fd);
  if (!IsOwn(fd) || InVforkChild()) return true;
  const long flags = raw::Syscall(SYS_fcntl, fd, F_GETFD);
  const long moved =
      raw::Syscall(SYS_fcntl, fd, (flags & FD_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, FirstOwnNumber());
  if (moved < 0) {
    errno = static_cast<int>(-moved);
    return false;
  }
  MarkOwn(static_cast<int>(moved));
  AgentDescriptorMoved(fd, static_cast<int>(moved));
  ForgetOwn(fd);
  return true;
}

int NotOpen() {
  errno = EBADF;
  return -1;
}

// Where the kernel has no close_range.
int CloseEach(unsigned first, unsigned last) {
  rlimit limit{};
  if (raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit)) != 0) return -1;
  for (unsigned fd = first; fd <= last && fd < limit.rlim_cur; ++fd) {
    if (!IsOwn(static_cast<int>(fd))) raw::Close(static_cast<int>(fd));
  }
  return 0;
}

}  // namespace

int Copied(int from, int to, int flags) {
  if (to < 0 || !IsKnown(from) || InVforkChild()) return to;
  SetKind(to, KindOf(from));
  if (IsQueue(from)) QueueCopied(from, to, flags);
  if (IsHomeQueue(from) && (flags & O_CLOEXEC) == 0) PinHomeQueue(from);  // programs to come get it
  FileCopied(from, to);
  return to;
}

void MarkOwn(int fd) {
  int low = own_low.load(std::memory_order_relaxed), high = own_high.load(std::memory_order_relaxed);
  while (fd < low && !own_low.compare_exchange_weak(low, fd, std::memory_order_relaxed)) {
  }
  while (fd > high && !own_high.compare_exchange_weak(high, fd, std::memory_order_relaxed)) {
  }
  SetKind(fd, DescriptorKind::kOwn);
}

void ForgetOwn(int fd) {
  SetKind(fd, DescriptorKind::kNothing);
}

void CloseOwn(int fd) {
  ForgetOwn(fd);
  raw::Close(fd);
}

int MoveToOwn(int fd) {
  const long moved = raw::Syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FirstOwnNumber());
  raw::Close(fd);
  if (moved >= 0) MarkOwn(static_cast<int>(moved));
  return static_cast<int>(moved);
}

namespace hooks {

int close(int fd) {
  if (IsOwn(fd)) return NotOpen();
  if (HoldsKernelLock(fd)) KernelLockCloses(fd);
  if (IsMapped(fd)) return CloseFile(fd);
  const bool may_be_replaced = MayBeReplaced(fd);
  const ClosingListener listener(fd);
  Forget(fd);
  const StreamNumbers held(may_be_replaced);
  return real::close(fd);
}

int close_range(unsigned first, unsigned last, int flags) {
  if (first > last) return real::close_range(first, last, flags);
  const bool closes = (flags & CLOSE_RANGE_CLOEXEC) == 0;
  const ClosingListener listener(closes ? first : 1, closes ? last : 0);
  if (closes) ForgetRange(first, last);
  const StreamNumbers held(HasStreams());
  return CloseRange(first, last, flags);
}

void closefrom(int first) {
  const unsigned from = first < 0 ? 0 : static_cast<unsigned>(first);
  const int before = errno;
  const ClosingListener listener(from, ~0U);
  ForgetRange(from, ~0U);
  const StreamNumbers held(HasStreams());
  if (CloseRange(from, ~0U, 0) != 0) CloseEach(from, ~0U);
  errno = before;
}

int dup2(int from, int to) {
  if (IsOwn(from)) return NotOpen();
  if (from == to || to < 0) return real::dup2(from, to);
  BecomesStandard(from, to);
  const bool may_be_replaced = MayBeReplaced(from) || MayBeReplaced(to);
  const ClosingListener listener(to);
  if (!MakeRoom(to)) return -1;
  const StreamNumbers held(may_be_replaced);
  return Copied(from, real::dup2(from, to), 0);
}

int dup3(int from, int to, int flags) {
  if (IsOwn(from)) return NotOpen();
  if (from == to || to < 0) return real::dup3(from, to, flags);
  BecomesStandard(from, to);
  const bool may_be_replaced = MayBeReplaced(from) || MayBeReplaced(to);
  const ClosingListener listener(to);
  if (!MakeRoom(to)) return -1;
  const StreamNumbers held(may_be_replaced);
  return Copied(from, real::dup3(from, to, flags), flags);
}

}  // namespace hooks
}  // namespace elsewhere::preload
