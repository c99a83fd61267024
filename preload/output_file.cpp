// Calls on files that are written at home: all but write itself are made there, behind what was written
// before.
//
// A child's standard output that is redirected into a file shares one offset with everybody, so its bytes are
// sent home (runtime/stream). The local pipe can be written, and that is all that it has of a file. So it is
// with a file that has no name, which no other host can open; such a one may be read, too.
#include "preload/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_lock.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/shared_file.h"
#include "preload/stream.h"
#include "shim/wire/abi.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using wire::StreamCall;

// True: `*result` is what the call at home gave. False: the descriptor is something else by now.
template <class R>
bool AtHome(R* result, int fd, StreamCall call, std::initializer_list<int64_t> arguments,
            const Payload& payload = {}, Interruption interruption = Interruption::kNone) {
  if (!IsOutputFile(fd)) return false;
  bool stranger;
  *result = static_cast<R>(CallAtOrigin(fd, call, arguments, payload, &stranger, interruption));
  return !stranger;
}

// In pieces that fit into a call. What is written first is known to be in when the next one fails.
ssize_t WriteAt(int fd, const void* from, size_t size, off_t offset, int flags) {
  size_t done = 0;
  do {
    const size_t left = size - done, piece = left < abi::kSlotPayload ? left : abi::kSlotPayload;
    ssize_t written;
    const off_t at = offset < 0 ? offset : offset + static_cast<off_t>(done);
    if (!AtHome(&written, fd, StreamCall::kWriteAt, {at, flags},
                {static_cast<const char*>(from) + done, piece}))
      return real::pwritev2(fd, nullptr, -1, offset, flags);  // closed meanwhile: fails as it must
    if (written < 0) return done != 0 ? static_cast<ssize_t>(done) : -1;
    done += static_cast<size_t>(written);
    if (static_cast<size_t>(written) < piece) break;
  } while (done < size);
  return static_cast<ssize_t>(done);
}

// In pieces, too, as long as they are full. What is on its way to the file is in it by then.
ssize_t ReadAt(int fd, void* to, size_t size, off_t offset, int flags) {
  size_t done = 0;
  if (size != 0 && !IsReadable(to, size)) {
    errno = EFAULT;
    return -1;
  }
  do {
    const size_t left = size - done, piece = left < abi::kSlotPayload ? left : abi::kSlotPayload;
    ssize_t got;
    const off_t at = offset < 0 ? offset : offset + static_cast<off_t>(done);
    if (!AtHome(&got, fd, StreamCall::kReadAt, {static_cast<int64_t>(piece), at, flags},
                {nullptr, 0, static_cast<char*>(to) + done, piece}))
      return offset < 0 ? real::read(fd, to, size)
                        : real::pread(fd, to, size, offset);  // it is another file's
    if (got < 0) return done != 0 ? static_cast<ssize_t>(done) : -1;
    done += static_cast<size_t>(got);
    if (static_cast<size_t>(got) < piece) break;
  } while (done < size);
  return static_cast<ssize_t>(done);
}

// `Call`: ReadAt or WriteAt, for one part after the other as long as they are full.
template <auto Call>
ssize_t InParts(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (count < 0 || count > IOV_MAX) {
    errno = EINVAL;
    return -1;
  }
  ssize_t done = 0;
  for (int i = 0; i < count; ++i) {
    const ssize_t size =
        Call(fd, parts[i].iov_base, parts[i].iov_len, offset < 0 ? offset : offset + done, flags);
    if (size < 0) return done != 0 ? done : -1;
    done += size;
    if (static_cast<size_t>(size) < parts[i].iov_len) break;
  }
  return done;
}

void Convert(const struct statfs& from, struct statvfs* to) {
  memset(to, 0, sizeof *to);
  to->f_bsize = static_cast<unsigned long>(from.f_bsize);
  to->f_frsize = from.f_frsize != 0 ? static_cast<unsigned long>(from.f_frsize) : to->f_bsize;
  to->f_blocks = from.f_blocks;
  to->f_bfree = from.f_bfree;
  to->f_bavail = from.f_bavail;
  to->f_files = from.f_files;
  to->f_ffree = to->f_favail = from.f_ffree;
  memcpy(&to->f_fsid, &from.f_fsid, sizeof to->f_fsid);
  to->f_namemax = static_cast<unsigned long>(from.f_namelen);
  constexpr long kValid = 0x20;  // ours, not the user's: f_flags is filled in
  to->f_flag = static_cast<unsigned long>(from.f_flags & ~kValid);
}

bool SameFile(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

bool OpenOutputFile(int* fd, int of, int flags) {
  char name[abi::kSlotPayload + 1];
  struct stat there, here;
  bool stranger;
  const int before = errno;
  const int64_t size =
      CallAtOrigin(of, StreamCall::kName, {}, {nullptr, 0, name, abi::kSlotPayload}, &stranger);
  if (stranger || size <= 0 || hooks::fstat(of, &there) != 0) return false;
  name[size] = '\0';
  if (const int mapped = OpenIfMapped(AT_FDCWD, name, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW), 0);
      mapped != -2) {
    errno = mapped < 0 ? errno : before;
    if (mapped < 0) return false;
    raw::Syscall(SYS_dup3, mapped, *fd, flags & O_CLOEXEC);
    FileCopied(mapped, *fd);
    SetKind(mapped, DescriptorKind::kNothing);
    raw::Close(mapped);
    return true;
  }
  // Hosts that share the file system have it under the same name. Elsewhere, or where it has none, the pipe
  // stays, which takes what is written.
  const long found = raw::Syscall(SYS_stat, raw::Address(name), raw::Address(&here));
  errno = before;
  if (raw::Failed(found) || !SameFile(there, here)) return false;
  const int file = real::open(name, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW), 0);
  if (file < 0) {
    const int error = errno;
    raw::Close(*fd);
    errno = error;
    *fd = -1;
    return true;
  }
  // Under the number that open gave, which may be looked at, and which no other thread can get in between.
  raw::Syscall(SYS_dup3, file, *fd, flags & O_CLOEXEC);
  raw::Close(file);
  return true;
}

namespace output {

ssize_t read(int fd, void* buffer, size_t size) {
  return ReadAt(fd, buffer, size, -1, 0);
}
ssize_t pread(int fd, void* buffer, size_t size, off_t offset) {
  if (offset >= 0) return ReadAt(fd, buffer, size, offset, 0);
  errno = EINVAL;
  return -1;
}
ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room) {
  return size <= room ? output::pread(fd, buffer, size, offset)
                      : real::__pread_chk(fd, buffer, size, offset, room);
}
ssize_t preadv(int fd, const iovec* parts, int count, off_t offset) {
  if (offset >= 0) return InParts<ReadAt>(fd, parts, count, offset, 0);
  errno = EINVAL;
  return -1;
}
ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  return InParts<ReadAt>(fd, parts, count, offset, flags);
}

// libc looks at the local pipe, which can only be written.
FILE* fdopen(int fd, const char* mode) {
  const bool both = *mode != '\0' && strchr(mode + 1, '+') != nullptr;
  const bool reads = both || *mode == 'r', writes = both || *mode != 'r';
  const int flags = hooks::fcntl(fd, F_GETFL, nullptr);
  const int access = flags & O_ACCMODE;
  if (flags < 0 || strchr("rwa", *mode) == nullptr || *mode == '\0' || (access == O_RDONLY && writes) ||
      (access == O_WRONLY && reads)) {
    if (flags >= 0) errno = EINVAL;
    return nullptr;
  }
  const bool appends = *mode == 'a';
  if (appends && (flags & O_APPEND) == 0 &&
      hooks::fcntl(fd, F_SETFL, reinterpret_cast<void*>(static_cast<intptr_t>(flags | O_APPEND))) < 0)
    return nullptr;
  FILE* const stream = real::fdopen(fd, strchr(mode, 'e') != nullptr ? "we" : "w");
  if (stream == nullptr) return nullptr;
  constexpr int kNoReads = 4, kNoWrites = 8, kAppending = 0x1000;  // of glibc's FILE, as fdopen sets them
  stream->_flags &= ~(kNoReads | kNoWrites);
  stream->_flags |= (reads ? 0 : kNoReads) | (writes ? 0 : kNoWrites) | (appends ? kAppending : 0);
  return stream;
}

ssize_t pwrite(int fd, const void* buffer, size_t size, off_t offset) {
  if (!IsOutputFile(fd)) return real::pwrite(fd, buffer, size, offset);
  if (offset >= 0) return WriteAt(fd, buffer, size, offset, 0);
  errno = EINVAL;
  return -1;
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  if (!IsOutputFile(fd)) return real::pwritev(fd, parts, count, offset);
  if (offset >= 0) return InParts<WriteAt>(fd, parts, count, offset, 0);
  errno = EINVAL;
  return -1;
}
ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (IsOutputFile(fd)) return InParts<WriteAt>(fd, parts, count, offset, flags);
  return BeforeOutput(fd) ? real::pwritev2(fd, parts, count, offset, flags) : -1;
}

ssize_t copy_file_range(int from, off64_t* offset, int fd, off64_t* to_offset, size_t size, unsigned flags) {
  // Between two hosts it is as between two file systems: the caller reads and writes.
  if (!IsOutputFile(fd) && !IsOutputFile(from))
    return real::copy_file_range(from, offset, fd, to_offset, size, flags);
  errno = EXDEV;
  return -1;
}

int fsync(int fd) {
  int result;
  return AtHome(&result, fd, StreamCall::kSync, {0}) ? result : real::fsync(fd);
}
int fdatasync(int fd) {
  int result;
  return AtHome(&result, fd, StreamCall::kSync, {1}) ? result : real::fdatasync(fd);
}

int ftruncate(int fd, off_t size) {
  int result;
  return AtHome(&result, fd, StreamCall::kTruncate, {size}) ? result : real::ftruncate(fd, size);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
  int result;
  if (AtHome(&result, fd, StreamCall::kAllocate, {mode, offset, size})) return result;
  return real::fallocate(fd, mode, offset, size);
}
// It returns the error.
int posix_fallocate(int fd, off_t offset, off_t size) {
  const int before = errno;
  int result;
  if (!AtHome(&result, fd, StreamCall::kAllocate, {0, offset, size}))
    return real::posix_fallocate(fd, offset, size);
  const int error = result < 0 ? errno : 0;
  errno = before;
  return error;
}

int fchmod(int fd, mode_t mode) {
  int result;
  return AtHome(&result, fd, StreamCall::kSetMode, {mode}) ? result : real::fchmod(fd, mode);
}
int fchown(int fd, uid_t user, gid_t group) {
  int result;
  return AtHome(&result, fd, StreamCall::kSetOwner, {user, group}) ? result : real::fchown(fd, user, group);
}
int futimens(int fd, const timespec* times) {
  int result;
  const Payload payload{times, times == nullptr ? 0 : 2 * sizeof *times};
  return AtHome(&result, fd, StreamCall::kSetTimes, {}, payload) ? result : real::futimens(fd, times);
}

int statx(int directory, const char* path, int flags, unsigned mask, struct statx* status) {
  int result;
  const Payload payload{nullptr, 0, status, sizeof *status};
  const bool itself = (flags & AT_EMPTY_PATH) != 0 && (path == nullptr || *path == '\0');
  if (itself && AtHome(&result, directory, StreamCall::kStatus, {flags, mask}, payload)) return result;
  return real::statx(directory, path, flags, mask, status);
}

ssize_t fgetxattr(int fd, const char* name, void* value, size_t size) {
  char room[abi::kSlotPayload];
  ssize_t result;
  if (!AtHome(&result, fd, StreamCall::kGetAttribute, {}, {name, strlen(name) + 1, room, sizeof room}))
    return real::fgetxattr(fd, name, value, size);
  if (result < 0 || size == 0) return result;
  if (static_cast<size_t>(result) > size || static_cast<size_t>(result) > sizeof room) {
    errno = ERANGE;
    return -1;
  }
  memcpy(value, room, static_cast<size_t>(result));
  return result;
}
int fsetxattr(int fd, const char* name, const void* value, size_t size, int flags) {
  if (!IsOutputFile(fd)) return real::fsetxattr(fd, name, value, size, flags);
  char both[abi::kSlotPayload];
  const size_t length = strlen(name) + 1;
  if (length > sizeof both || size > sizeof both - length) {
    errno = E2BIG;
    return -1;
  }
  memcpy(both, name, length);
  if (size != 0) memcpy(both + length, value, size);
  int result;
  if (AtHome(&result, fd, StreamCall::kSetAttribute, {flags, static_cast<int64_t>(length)},
             {both, length + size}))
    return result;
  return real::fsetxattr(fd, name, value, size, flags);
}
ssize_t flistxattr(int fd, char* list, size_t size) {
  char room[abi::kSlotPayload];
  ssize_t result;
  if (!AtHome(&result, fd, StreamCall::kListAttributes, {}, {nullptr, 0, room, sizeof room}))
    return real::flistxattr(fd, list, size);
  if (result < 0 || size == 0) return result;
  if (static_cast<size_t>(result) > size || static_cast<size_t>(result) > sizeof room) {
    errno = ERANGE;
    return -1;
  }
  memcpy(list, room, static_cast<size_t>(result));
  return result;
}
int fremovexattr(int fd, const char* name) {
  int result;
  if (AtHome(&result, fd, StreamCall::kRemoveAttribute, {}, {name, strlen(name) + 1})) return result;
  return real::fremovexattr(fd, name);
}

int fstatfs(int fd, struct statfs* status) {
  int result;
  const Payload payload{nullptr, 0, status, sizeof *status};
  return AtHome(&result, fd, StreamCall::kFileSystem, {}, payload) ? result : real::fstatfs(fd, status);
}

int fstatvfs(int fd, struct statvfs* status) {
  int result;
  struct statfs there {};
  if (!AtHome(&result, fd, StreamCall::kFileSystem, {}, {nullptr, 0, &there, sizeof there}))
    return real::fstatvfs(fd, status);
  if (result == 0) Convert(there, status);
  return result;
}

}  // namespace output

namespace hooks {

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
  int result;
  if (AtHome(&result, fd, StreamCall::kSyncRange, {offset, size, flags})) return result;
  return real::sync_file_range(fd, offset, size, flags);
}

int posix_fadvise(int fd, off_t offset, off_t size, int advice) {
  const int before = errno;
  int result;
  if (!AtHome(&result, fd, StreamCall::kAdvise, {offset, size, advice}))
    return real::posix_fadvise(fd, offset, size, advice);
  const int error = result < 0 ? errno : 0;
  errno = before;
  return error;
}

long fpathconf(int fd, int name) {
  long result;
  if (AtHome(&result, fd, StreamCall::kPathLimit, {name})) return result;
  return IsMapped(fd) ? LimitOfMapped(fd, name) : real::fpathconf(fd, name);
}

namespace {

int FlockSomewhere(int fd, int operation) {
  int result = -1;
  if (AtHome(&result, fd, StreamCall::kLock, {operation}, {}, Interruption::kAllowed)) return result;
  if (IsMappedFile(fd)) return FlockMappedFile(fd, operation);
  // A plain file of this host may stand for a description of another one's, which has the lock.
  bool stranger = true;
  if (OnWorker() && MayShareOffset(fd))
    result = static_cast<int>(
        CallAtOrigin(fd, StreamCall::kLock, {operation, fd}, {}, &stranger, Interruption::kAllowed));
  return stranger ? real::flock(fd, operation) : result;
}

}  // namespace

int flock(int fd, int operation) {
  using Kind = KernelLock::Kind;
  const int type = operation & ~LOCK_NB;
  const KernelLock lock(fd, type == LOCK_UN   ? Kind::kUnlock
                            : type == LOCK_SH ? Kind::kShared
                                              : Kind::kExclusive);
  return lock.Done(FlockSomewhere(fd, operation));
}

}  // namespace hooks
}  // namespace elsewhere::preload
