// Pipes of home's that have become this host's: the number that stood for the read end gets the pipe itself.
//
// The agent says so when it is asked for input (stream.cpp) and offers the pipe. Only the number that is
// being used is replaced; what else stands for the pipe here follows when it is used. Nobody may close the
// number and open something else under it between the look and the dup3, so whoever closes, copies or
// replaces a number that may be such a one holds the lock meanwhile (StreamNumbers).
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/stat.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

// 0 free, 1 held, 2 held and somebody sleeps.
constinit std::atomic<uint32_t> lock{0};

uint64_t SetSignalMask(uint64_t mask) {
  uint64_t before = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&mask), raw::Address(&before), sizeof mask);
  return before;
}

bool Shows(int fd, const wire::MovedPipe& moved) {
  struct stat status;
  return !raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) && status.st_dev == moved.device &&
         status.st_ino == moved.inode;
}

bool SameObject(int one, int other) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, one, raw::Address(&status)))) return false;
  return Shows(other, {0, status.st_dev, status.st_ino});
}

void SayOfStandIn(const wire::MovedPipe& moved, Watching what) {
  CallAgent(abi::Operation::kWatch, {static_cast<int64_t>(moved.device), static_cast<int64_t>(moved.inode),
                                     static_cast<int64_t>(what), 0});
}

}  // namespace

// A vfork child has numbers of its own, and its parent's lock.
StreamNumbers::StreamNumbers(bool needed) : needed_(needed && !InVforkChild()) {
  if (!needed_) return;
  signals_ = SetSignalMask(~uint64_t{0});
  uint32_t free = 0;
  if (lock.compare_exchange_strong(free, 1, std::memory_order_acquire)) return;
  while (lock.exchange(2, std::memory_order_acquire) != 0) {
    raw::Syscall(SYS_futex, raw::Address(&lock), FUTEX_WAIT_PRIVATE, 2);
  }
}

StreamNumbers::~StreamNumbers() {
  if (!needed_) return;
  if (lock.exchange(0, std::memory_order_release) == 2)
    raw::Syscall(SYS_futex, raw::Address(&lock), FUTEX_WAKE_PRIVATE, 1);
  SetSignalMask(signals_);
}

void ResetStreamNumbers() {
  lock.store(0, std::memory_order_relaxed);
}

Taken TakeMovedPipe(int fd, const wire::MovedPipe& moved) {
  const int before = errno;
  const int pipe = FetchDescriptor(moved.token);
  if (pipe < 0) return Taken::kCannot;
  Taken taken = Taken::kYes;
  bool watched = false;
  {
    const StreamNumbers held(true);
    if (Shows(fd, moved)) {
      const long flags = raw::Syscall(SYS_fcntl, fd, F_GETFD);
      watched = LeaveEpolls(fd);
      raw::Syscall(SYS_dup3, pipe, fd, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
      // The kind last: who finds it still set asks the agent, who knows nothing of this object.
      SetKind(fd, DescriptorKind::kNothing);
      EnterEpolls(fd);
    } else if (!SameObject(pipe, fd)) {
      taken = Taken::kClosed;
    }
  }
  raw::Close(pipe);
  if (watched && !WatchesAnyStream()) SayOfStandIn(moved, Watching::kForget);
  if (taken == Taken::kYes) SayOfStandIn(moved, Watching::kHasLeft);
  errno = before;
  return taken;
}

KeptPlace::KeptPlace(int fd) {
  if (KindOf(fd) != DescriptorKind::kPipeWrite) return;
  bool stranger;
  const int before = errno;
  if (CallAboutStream(abi::Operation::kKeepPlace, fd, 1, 0, {}, Interruption::kNone, &stranger) == 0)
    fd_ = fd;
  errno = before;
}

KeptPlace::~KeptPlace() {
  bool stranger;
  const int before = errno;
  if (fd_ >= 0) CallAboutStream(abi::Operation::kKeepPlace, fd_, 0, 0, {}, Interruption::kNone, &stranger);
  errno = before;
}

}  // namespace elsewhere::preload
