// Record locks (fcntl, lockf) on files that are written at home, and on others whose description is there.
//
// Those that belong to the description (F_OFD_*) are made on it. The others belong to a process and a file,
// not to a description, so this process takes them on the file itself, which hosts that share the file system
// have under the same name, and all hosts if it is mapped: by a descriptor of ours, opened when the first
// lock is asked for and closed when the program closes any of its own of that file, which ends the locks as
// natively. Of one that has no name they are made at its origin.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

struct Held {
  std::atomic<uint64_t> object;  // inode of the local pipe; 0: free
  std::atomic<int> file;         // a descriptor of ours; -1: not open yet
};
constexpr int kAtOrigin = -2;  // Held::file: the locks are there
constexpr int kMost = 32;
constinit Held all[kMost] = {};
constinit std::atomic<int> count = 0;

uint64_t ObjectOf(int fd) {
  struct stat status;
  return raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) ? 0 : status.st_ino;
}

int OpenOwn(int fd) {
  struct stat status;
  if (hooks::fstat(fd, &status) == 0 && status.st_nlink == 0) return kAtOrigin;
  int file = real::dup(fd);
  if (file < 0) return -1;
  if (!OpenOutputFile(&file, fd, O_WRONLY | O_CLOEXEC)) {
    raw::Close(file);
    return -1;
  }
  if (file < 0) return -1;
  const int own = MoveToOwn(file);
  SetKind(file, DescriptorKind::kNothing);
  return own;
}

// The file of `fd` under a number of ours; -1: errno; kAtOrigin: there is none.
int FileOf(int fd) {
  const uint64_t object = ObjectOf(fd);
  for (const Held& held : all) {
    if (held.object.load(std::memory_order_acquire) == object) return held.file.load();
  }
  const int before = errno;
  const int own = OpenOwn(fd);
  for (Held& held : all) {
    uint64_t free_slot = 0;
    if ((own < 0 && own != kAtOrigin) || held.object.load() != 0) continue;
    held.file.store(own);
    if (!held.object.compare_exchange_strong(free_slot, object)) continue;
    count.fetch_add(1);
    errno = before;
    return own;
  }
  if (own >= 0) CloseOwn(own);
  errno = ENOLCK;
  return -1;
}

// The offset of another description is not this one's.
struct flock FromStart(int fd, const struct flock& lock) {
  struct flock there = lock;
  if (there.l_whence != SEEK_CUR) return there;
  there.l_whence = SEEK_SET;
  there.l_start += hooks::lseek(fd, 0, SEEK_CUR);
  return there;
}

void Tell(const struct flock& found, struct flock* lock) {
  const bool is_free = found.l_type == F_UNLCK;
  if (is_free) {
    lock->l_type = F_UNLCK;
  } else {
    *lock = found;
  }
}

}  // namespace

bool LockAtOrigin(int* result, int fd, int command, struct flock* lock) {
  if (!IsReadable(lock, sizeof *lock)) return false;
  const bool waits = command == F_OFD_SETLKW || command == F_SETLKW;
  const bool asks = command == F_OFD_GETLK || command == F_GETLK;
  struct flock there = FromStart(fd, *lock);
  bool stranger;
  *result = static_cast<int>(CallAtOrigin(fd, wire::StreamCall::kRecordLock, {command, fd, SessionPid()},
                                          {&there, sizeof there, &there, sizeof there}, &stranger,
                                          waits ? Interruption::kAllowed : Interruption::kNone));
  if (!stranger && *result == 0 && asks) Tell(there, lock);
  return !stranger;
}

int LockOutputFile(int fd, int command, struct flock* lock) {
  if (IsMappedFile(fd)) return LockMappedFile(fd, command, lock);
  int result;
  if (IsDescriptionLock(command))
    return LockAtOrigin(&result, fd, command, lock) ? result : real::fcntl(fd, command, lock);
  const int file = FileOf(fd);
  if (file < 0 && file != kAtOrigin) {
    errno = ENOLCK;
    return -1;
  }
  if (file == kAtOrigin) {
    struct flock there = *lock;
    there.l_pid = 0;
    if (!LockAtOrigin(&result, fd, command, &there)) return real::fcntl(fd, command, lock);
    if (result == 0 && command == F_GETLK) *lock = there;
    return result;
  }
  struct flock there = FromStart(fd, *lock);
  result = HasMaps() ? LockMappedFile(file, command, &there) : real::fcntl(file, command, &there);
  if (result == 0 && command == F_GETLK) Tell(there, lock);
  return result;
}

void OutputFileCloses(int fd) {
  if (count.load(std::memory_order_relaxed) == 0) return;
  const uint64_t object = ObjectOf(fd);
  for (Held& held : all) {
    if (object == 0 || held.object.load() != object) continue;
    if (held.file.load() == kAtOrigin) {
      struct flock every = {};
      every.l_type = F_UNLCK;
      int result;
      LockAtOrigin(&result, fd, F_SETLK, &every);
    } else {
      GiveUpRecordLocks(held.file.load(), 0);
      CloseOwn(held.file.load());
    }
    held.object.store(0);
    count.fetch_sub(1);
  }
}

void ForgetOutputLocks(bool close) {
  if (count.exchange(0) == 0) return;
  for (Held& held : all) {
    if (held.object.load() != 0 && held.file.load() >= 0 && close) CloseOwn(held.file.load());
    held.object.store(0);
  }
}

namespace hooks {

int lockf(int fd, int command, off_t size) {
  if (!IsOutputFile(fd) && !IsMappedFile(fd)) {
    if (command == F_TEST) return real::lockf(fd, command, size);
    const KernelLock order(fd, command == F_ULOCK ? KernelLock::Kind::kUnlock : KernelLock::Kind::kExclusive);
    return order.Done(real::lockf(fd, command, size));
  }
  struct flock lock = {};
  lock.l_type = command == F_ULOCK ? F_UNLCK : F_WRLCK;
  lock.l_whence = SEEK_CUR;
  lock.l_len = size;
  switch (command) {
    case F_LOCK:
      return LockOutputFile(fd, F_SETLKW, &lock);
    case F_TLOCK:
    case F_ULOCK:
      return LockOutputFile(fd, F_SETLK, &lock);
    case F_TEST:
      if (LockOutputFile(fd, F_GETLK, &lock) != 0) return -1;
      if (lock.l_type == F_UNLCK) return 0;
      errno = EACCES;
      return -1;
    default:
      errno = EINVAL;
      return -1;
  }
}

}  // namespace hooks
}  // namespace elsewhere::preload
