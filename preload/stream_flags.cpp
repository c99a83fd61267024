// fcntl on descriptors whose object is elsewhere.
//
// Status flags, the owner of SIGIO and a pipe's size are properties of the open file description, seen and
// changed by everybody who shares it: they are asked and set at the origin. The local description gets what
// decides how the kernel treats this process's own calls: O_NONBLOCK. Packet mode (O_DIRECT) of a local pipe
// is ours, not the program's.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/message_queue.h"
#include "preload/output_file.h"
#include "preload/process_target.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/shared_file.h"
#include "preload/stream.h"

namespace elsewhere::preload {
namespace {

bool HasPackets(int fd) {
  return KindOf(fd) == DescriptorKind::kPipeWrite || KindOf(fd) == DescriptorKind::kOutputFile;
}

bool IsElsewhere(int fd) {
  return IsStreamInput(fd) || HasPackets(fd);
}

bool IsPipe(int fd) {
  return KindOf(fd) == DescriptorKind::kPipeRead || KindOf(fd) == DescriptorKind::kPipeWrite;
}

bool IsOfDescription(int fd, int command) {
  switch (command) {
    case F_GETFL:
    case F_SETFL:
    case F_GETOWN:
    case F_SETOWN:
    case F_GETSIG:
    case F_SETSIG:
      return true;
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ:
      return IsPipe(fd);
    default:
      return false;
  }
}

// A seal against writing is refused while anybody maps the object to write it: the agent also does for
// processes that have just ended.
int AddSeals(int fd, void* seals) {
  const int before = errno;
  const int result = real::fcntl(fd, F_ADD_SEALS, seals);
  struct stat status;
  if (result == 0 || errno != EBUSY || real::fstat(fd, &status) != 0 || AgentTable() == nullptr)
    return result;
  CallAgent(abi::Operation::kSegmentLetGo,
            {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino)});
  errno = before;
  return real::fcntl(fd, F_ADD_SEALS, seals);
}

int ControlHere(int fd, int command, void* argument) {
  if (!HasPackets(fd)) return real::fcntl(fd, command, argument);
  if (command == F_GETFL) {
    const int flags = real::fcntl(fd, command, argument);
    return flags < 0 ? flags : flags & ~O_DIRECT;
  }
  if (command == F_SETFL) argument = reinterpret_cast<void*>(reinterpret_cast<intptr_t>(argument) | O_DIRECT);
  return real::fcntl(fd, command, argument);
}

}  // namespace

int SetNonBlocking(int fd, bool on) {
  const int flags = hooks::fcntl(fd, F_GETFL, nullptr);
  if (flags < 0) return -1;
  const intptr_t wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  return hooks::fcntl(fd, F_SETFL, reinterpret_cast<void*>(wanted));
}

namespace {

int Control(int fd, int command, void* argument) {
  if (IsOwn(fd)) {
    errno = EBADF;
    return -1;
  }
  if (command == F_ADD_SEALS) return AddSeals(fd, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    const StreamNumbers held(MayBeReplaced(fd));
    return Copied(fd, real::fcntl(fd, command, argument), command == F_DUPFD ? 0 : O_CLOEXEC);
  }
  if (IsQueue(fd) && (command == F_GETFL || command == F_SETFL || command == F_SETFD)) {
    const int result = QueueFlags(fd, command, reinterpret_cast<intptr_t>(argument));
    return result == 0 && command == F_SETFD ? real::fcntl(fd, command, argument) : result;
  }
  if (IsHomeQueue(fd) && command == F_SETFL) {
    const HomeQueueUse use(fd);
    return real::fcntl(fd, command, argument);
  }
  if (IsHomeQueue(fd) && command == F_SETFD && (reinterpret_cast<intptr_t>(argument) & FD_CLOEXEC) == 0)
    PinHomeQueue(fd);
  // Locally there may be a pipe where the program has none.
  if (KindOf(fd) == DescriptorKind::kOutputFile && (command == F_GETPIPE_SZ || command == F_SETPIPE_SZ)) {
    errno = EBADF;
    return -1;
  }
  if (IsOutputFile(fd) && IsRecordLock(command))
    return LockOutputFile(fd, command, static_cast<struct flock*>(argument));
  if (IsMappedFile(fd) && IsRecordLock(command))
    return LockMappedFile(fd, command, static_cast<struct flock*>(argument));
  // A plain file of this host may stand for a description of another one's, which has the lock.
  int locked;
  if (IsDescriptionLock(command) && OnWorker() && MayShareOffset(fd) &&
      LockAtOrigin(&locked, fd, command, static_cast<struct flock*>(argument)))
    return locked;
  if (!IsElsewhere(fd) || !IsOfDescription(fd, command)) {
    const StreamNumbers held(command == F_SETFD && MayBeReplaced(fd));
    const bool by_pid = OnWorker() && CommandNamesProcess(command) && !IsMapped(fd);
    return by_pid ? ControlByPid(fd, command, argument) : real::fcntl(fd, command, argument);
  }
  const auto value = reinterpret_cast<intptr_t>(argument);
  const KeptPlace kept(command == F_SETFL ? fd : -1);
  bool stranger;
  const auto result = static_cast<int>(
      CallAtOrigin(fd, wire::StreamCall::kControl, {command, static_cast<int>(value)}, {}, &stranger));
  if (stranger) return real::fcntl(fd, command, argument);
  // Of a pipe's reading end only the origin waits.
  if (result >= 0 && command == F_SETFL && KindOf(fd) != DescriptorKind::kPipeRead)
    ControlHere(fd, F_SETFL, reinterpret_cast<void*>(value & O_NONBLOCK));
  return result;
}

}  // namespace

namespace hooks {

int fcntl(int fd, int command, void* argument) {
  using Kind = KernelLock::Kind;
  const auto* lock = static_cast<const struct flock*>(argument);
  const bool sets = IsRecordLock(command) && command != F_GETLK && command != F_OFD_GETLK;
  if (!sets || !IsReadable(lock, sizeof *lock)) return Control(fd, command, argument);
  const KernelLock order(fd, lock->l_type == F_UNLCK   ? Kind::kUnlock
                             : lock->l_type == F_RDLCK ? Kind::kShared
                                                       : Kind::kExclusive);
  return order.Done(Control(fd, command, argument));
}

}  // namespace hooks
}  // namespace elsewhere::preload
