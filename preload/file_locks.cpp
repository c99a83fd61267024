// Locks on mapped files, which hold on all hosts (runtime/file/file_locks.h).
//
// A record lock of this process is asked for at the agent, which has all of them; every close of a descriptor
// of the file gives them up. A lock of a description is the kernel's; before and behind it the agent is asked
// whether this host may have it.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "preload/agent.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/local_lock.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileLockCommand;
using abi::FileLockKind;
using abi::FileLockType;

struct Range {
  int64_t from = 0;
  int64_t to = -1;  // behind it; -1: it has no end
};

int Fail(int error) {
  errno = error;
  return -1;
}

bool RangeOf(int fd, const struct flock& lock, Range* range) {
  int64_t base = 0, last = 0;
  struct stat status;
  if (lock.l_whence == SEEK_CUR) base = raw::Syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (lock.l_whence == SEEK_END) {
    if (hooks::fstat(fd, &status) != 0) return false;
    base = status.st_size;
  }
  if (lock.l_whence != SEEK_SET && lock.l_whence != SEEK_CUR && lock.l_whence != SEEK_END) {
    errno = EINVAL;
    return false;
  }
  if (base < 0 || __builtin_add_overflow(base, lock.l_start, &range->from)) {
    errno = EOVERFLOW;
    return false;
  }
  if (lock.l_len < 0) {
    range->to = range->from;
    range->from += lock.l_len;
  } else if (lock.l_len > 0) {
    if (__builtin_add_overflow(range->from, lock.l_len - 1, &last)) {
      errno = EOVERFLOW;
      return false;
    }
    range->to = last == INT64_MAX ? -1 : last + 1;
  }
  if (range->from >= 0) return true;
  errno = EINVAL;
  return false;
}

// False: the descriptor is something else by now.
bool Ask(int* result, int fd, FileLockCommand command, FileLockKind kind, FileLockType type,
         const Range& range = {}, abi::FileLock* found = nullptr) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) return false;
  const int before = errno;
  const auto interruption = command == FileLockCommand::kWait ? Interruption::kAllowed : Interruption::kNone;
  *result = static_cast<int>(
      CallAgent(abi::Operation::kFileLock,
                {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
                 static_cast<int64_t>(command), static_cast<int64_t>(kind), static_cast<int64_t>(type),
                 range.from, range.to},
                {nullptr, 0, found, found == nullptr ? 0 : sizeof *found, nullptr}, interruption));
  if (*result != -1 || errno != EBADF) return true;
  errno = before;
  return false;
}

FileLockType TypeOf(short type) {
  return type == F_WRLCK   ? FileLockType::kExclusive
         : type == F_RDLCK ? FileLockType::kShared
                           : FileLockType::kNone;
}

void Tell(const abi::FileLock& found, struct flock* lock) {
  lock->l_type = found.type == FileLockType::kExclusive ? F_WRLCK
                 : found.type == FileLockType::kShared  ? F_RDLCK
                                                        : F_UNLCK;
  if (found.type == FileLockType::kNone) return;
  lock->l_whence = SEEK_SET;
  lock->l_start = static_cast<off_t>(found.from);
  lock->l_len = found.to == UINT64_MAX ? 0 : static_cast<off_t>(found.to - found.from);
  lock->l_pid = found.pid;
}

bool MayLock(int fd, short type) {
  const auto flags = raw::Syscall(SYS_fcntl, fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return false;
  return !(type == F_RDLCK && (flags & O_ACCMODE) == O_WRONLY) &&
         !(type == F_WRLCK && (flags & O_ACCMODE) == O_RDONLY);
}

int LockOfProcess(int fd, int command, struct flock* lock) {
  Range range;
  if (!RangeOf(fd, *lock, &range)) return -1;
  const bool waits = command == F_SETLKW && lock->l_type != F_UNLCK;
  const auto what = command == F_GETLK ? FileLockCommand::kGet
                    : waits            ? FileLockCommand::kWait
                                       : FileLockCommand::kTry;
  abi::FileLock found{};
  int result;
  if (!Ask(&result, fd, what, FileLockKind::kProcess, TypeOf(lock->l_type), range, &found))
    return real::fcntl(fd, command, lock);
  if (result == 0 && command == F_GETLK) Tell(found, lock);
  return result;
}

// First those of this host, then the others'.
int ConflictOfDescription(int fd, FileLockType type, const Range& range, struct flock* local,
                          struct flock* lock) {
  if (real::fcntl(fd, F_OFD_GETLK, local) != 0) return -1;
  if (local->l_type != F_UNLCK) {
    *lock = *local;
    if (local->l_start + local->l_len == abi::kLocalLocksEnd) lock->l_len = 0;
    return 0;
  }
  abi::FileLock found{};
  int result = 0;
  if (Ask(&result, fd, FileLockCommand::kGet, FileLockKind::kDescription, type, range, &found) && result != 0)
    return -1;
  Tell(found, lock);
  return 0;
}

int LockOfDescription(int fd, int command, struct flock* lock) {
  if (lock->l_pid != 0) return Fail(EINVAL);
  Range range;
  if (!RangeOf(fd, *lock, &range)) return -1;
  const FileLockType type = TypeOf(lock->l_type);
  int result;
  // The kernel's locks end before the file cache's.
  struct flock local = *lock;
  local.l_whence = SEEK_SET;
  local.l_start = range.from;
  local.l_len =
      (range.to < 0 || range.to > abi::kLocalLocksEnd ? abi::kLocalLocksEnd : range.to) - range.from;
  if (range.from >= abi::kLocalLocksEnd) return Fail(EOVERFLOW);
  if (command == F_OFD_GETLK) return ConflictOfDescription(fd, type, range, &local, lock);
  if (type == FileLockType::kNone) return real::fcntl(fd, command, &local);
  const auto what = command == F_OFD_SETLKW ? FileLockCommand::kWait : FileLockCommand::kTry;
  for (;;) {
    if (!Ask(&result, fd, what, FileLockKind::kDescription, type, range))
      return real::fcntl(fd, command, lock);
    if (result != 0 || real::fcntl(fd, command, &local) != 0) return -1;
    if (!Ask(&result, fd, FileLockCommand::kTry, FileLockKind::kDescription, type, range) || result == 0)
      return 0;
    struct flock none = local;
    none.l_type = F_UNLCK;
    real::fcntl(fd, F_OFD_SETLK, &none);
  }
}

}  // namespace

int LockMappedFile(int fd, int command, struct flock* lock) {
  if (!IsReadable(lock, sizeof *lock)) return Fail(EFAULT);
  const bool gets = command == F_GETLK || command == F_OFD_GETLK;
  if (lock->l_type != F_RDLCK && lock->l_type != F_WRLCK && (lock->l_type != F_UNLCK || gets))
    return Fail(EINVAL);
  if (!MayLock(fd, gets ? static_cast<short>(F_UNLCK) : lock->l_type)) return Fail(EBADF);
  const bool of_process = command == F_GETLK || command == F_SETLK || command == F_SETLKW;
  return of_process ? LockOfProcess(fd, command, lock) : LockOfDescription(fd, command, lock);
}

int FlockMappedFile(int fd, int operation) {
  const int type = operation & ~LOCK_NB;
  abi::Table* table = AgentTable();
  if ((type != LOCK_SH && type != LOCK_EX) || table == nullptr) return real::flock(fd, operation);
  if (table->header.flocks_ask.load() == 0) {
    if (real::flock(fd, operation) != 0) return -1;
    if (table->header.flocks_ask.load() == 0) return 0;
    real::flock(fd, LOCK_UN);
  }
  const FileLockType wanted = type == LOCK_EX ? FileLockType::kExclusive : FileLockType::kShared;
  for (;;) {
    int result;
    if (!Ask(&result, fd, FileLockCommand::kTry, FileLockKind::kFlock, wanted))
      return real::flock(fd, operation);
    if (result != 0 && errno != EAGAIN) return -1;
    if (result != 0) {
      // Another type than before is a new lock, for which the old one is given up, also in vain.
      real::flock(fd, LOCK_UN);
      if ((operation & LOCK_NB) != 0) return Fail(EWOULDBLOCK);
      if (Ask(&result, fd, FileLockCommand::kWait, FileLockKind::kFlock, wanted) && result != 0) return -1;
    }
    if (real::flock(fd, operation) != 0) return -1;
    if (!Ask(&result, fd, FileLockCommand::kTry, FileLockKind::kFlock, wanted) || result == 0) return 0;
    real::flock(fd, LOCK_UN);
  }
}

void GiveUpRecordLocks(int fd, uint16_t entry) {
  const abi::Table* table = ConnectedTable();
  if (table == nullptr || table->header.record_locks.load() == 0) return;
  if (entry != 0 && entry <= abi::kFileCount && table->files[entry - 1].record_locks.load() == 0) return;
  const int before = errno;
  int result;
  Ask(&result, fd, FileLockCommand::kClose, FileLockKind::kProcess, FileLockType::kNone);
  errno = before;
}

}  // namespace elsewhere::preload
