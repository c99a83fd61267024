// Functions about what a named file is and may: status, access, mode, owner, times, size.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileOperation;

auto AskStatus(struct stat* status, bool follow) {
  return [=](const MappedPath& at, FileCall* call) {
    call->operation = FileOperation::kStatus;
    call->arguments[0] = follow ? 1 : 0;
    if (CallFile(at, call) < 0) return -1;
    if (!HasRoom(status)) return -1;
    FillStatus(call->answer.status, status);
    return 0;
  };
}

statx_timestamp ToStatx(const timespec& time) {
  statx_timestamp converted{};
  converted.tv_sec = time.tv_sec;
  converted.tv_nsec = static_cast<uint32_t>(time.tv_nsec);
  return converted;
}

void FillStatx(const struct stat& from, struct statx* to) {
  memset(to, 0, sizeof *to);
  to->stx_mask = STATX_BASIC_STATS;
  to->stx_blksize = static_cast<uint32_t>(from.st_blksize);
  to->stx_nlink = static_cast<uint32_t>(from.st_nlink);
  to->stx_uid = from.st_uid;
  to->stx_gid = from.st_gid;
  to->stx_mode = static_cast<uint16_t>(from.st_mode);
  to->stx_ino = from.st_ino;
  to->stx_size = static_cast<uint64_t>(from.st_size);
  to->stx_blocks = static_cast<uint64_t>(from.st_blocks);
  to->stx_atime = ToStatx(from.st_atim);
  to->stx_mtime = ToStatx(from.st_mtim);
  to->stx_ctime = ToStatx(from.st_ctim);
  to->stx_rdev_major = major(from.st_rdev);
  to->stx_rdev_minor = minor(from.st_rdev);
  to->stx_dev_major = major(from.st_dev);
  to->stx_dev_minor = minor(from.st_dev);
}

int64_t Now() {
  timespec now{};
  raw::Syscall(SYS_clock_gettime, CLOCK_REALTIME, raw::Address(&now));
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

bool ToTime(const timespec& time, int64_t* ns) {
  if (time.tv_nsec == UTIME_OMIT) {
    *ns = abi::kTimeOmitted;
  } else if (time.tv_nsec == UTIME_NOW) {
    *ns = Now();
  } else if (time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) {
    errno = EINVAL;
    return false;
  } else {
    *ns = time.tv_sec * 1'000'000'000 + time.tv_nsec;
  }
  return true;
}

// Who may write the file may set both times to now.
bool IsTouch(const timespec* times) {
  return times == nullptr || (times[0].tv_nsec == UTIME_NOW && times[1].tv_nsec == UTIME_NOW);
}

int SetTimes(int directory, const char* path, const timespec* times, int flags) {
  int64_t atime, mtime;
  if (path == nullptr) {
    errno = EFAULT;
    return -1;
  }
  if (NamesDescriptor(directory, path, flags)) return hooks::futimens(directory, times);
  MappedPath at;
  if (!FindMapped(directory, path, &at) && !at.left) return real::utimensat(directory, path, times, flags);
  if (!FileTimes(times, &atime, &mtime)) return -1;
  return OnPath(
      directory, path,
      Ask(FileOperation::kSetTimes, atime, mtime, (flags & AT_SYMLINK_NOFOLLOW) == 0, IsTouch(times)),
      [&](int from, const char* name) { return real::utimensat(from, name, times, flags); });
}

}  // namespace

bool FileTimes(const struct timespec* times, int64_t* atime, int64_t* mtime) {
  if (times == nullptr) {
    *atime = *mtime = Now();
    return true;
  }
  if (!IsReadable(times, 2 * sizeof *times)) {
    errno = EFAULT;
    return false;
  }
  return ToTime(times[0], atime) && ToTime(times[1], mtime);
}

const struct timespec* ToTimespec(const struct timeval* from, struct timespec* to) {
  if (from == nullptr) return nullptr;
  // Whoever looks at it says EFAULT.
  if (!IsReadable(from, 2 * sizeof *from)) return reinterpret_cast<const struct timespec*>(from);
  for (int i = 0; i < 2; ++i) {
    to[i].tv_sec = from[i].tv_sec;
    to[i].tv_nsec = from[i].tv_usec < 0 || from[i].tv_usec >= 1'000'000 ? -1 : from[i].tv_usec * 1000;
  }
  return to;
}

int ChangeDirectory(int fd, FileOperation operation, int64_t first, int64_t second, int64_t third) {
  MappedPath at;
  FileCall call;
  if (!FindMapped(fd, ".", &at)) {
    errno = EBADF;
    return -1;
  }
  return Ask(operation, first, second, third)(at, &call);
}

namespace {

// A flag that the kernel does not know is the kernel's to refuse, before it looks at a path.
bool HasOthers(int flags, int known) {
  return (flags & ~known) != 0;
}

}  // namespace

namespace hooks {

int fstatat(int directory, const char* path, struct stat* status, int flags) {
  if (HasOthers(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
    return real::fstatat(directory, path, status, flags);
  if (NamesDescriptor(directory, path, flags)) return StatusOfFile(directory, status);
  const auto local = [&](int from, const char* name) { return real::fstatat(from, name, status, flags); };
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    return OnProcess(process, directory, path, local,
                     [&](const char* name) { return StatusAtHome(name, status, flags); });
  }
  return OnPath(directory, path, AskStatus(status, (flags & AT_SYMLINK_NOFOLLOW) == 0), local, true);
}
int stat(const char* path, struct stat* status) {
  return hooks::fstatat(AT_FDCWD, path, status, 0);
}
int lstat(const char* path, struct stat* status) {
  return hooks::fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}
int __xstat(int, const char* path, struct stat* status) {
  return hooks::stat(path, status);
}
int __lxstat(int, const char* path, struct stat* status) {
  return hooks::lstat(path, status);
}
int __fxstat(int, int fd, struct stat* status) {
  return StatusOfFile(fd, status);
}
int __fxstatat(int, int directory, const char* path, struct stat* status, int flags) {
  return hooks::fstatat(directory, path, status, flags);
}
int statx(int directory, const char* path, int flags, unsigned mask, struct statx* status) {
  if (IsOutputFile(directory)) return output::statx(directory, path, flags, mask, status);
  if ((flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE || (mask & STATX__RESERVED) != 0 ||
      HasOthers(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE))
    return real::statx(directory, path, flags, mask, status);
  struct stat found;
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    const int result = hooks::fstatat(directory, path, &found, flags & AT_SYMLINK_NOFOLLOW);
    if (result == 0) FillStatx(found, status);
    return result;
  }
  MappedPath at;
  const bool by_descriptor = NamesDescriptor(directory, path, flags);
  if (!by_descriptor && !FindMapped(directory, path, &at) && !at.left) {
    if (IsMissing(directory, path)) {
      errno = ENOENT;
      return -1;
    }
    const int result = real::statx(directory, path, flags, mask, status);
    if (result == 0 || errno != ENOENT || !FindBehindLinks(directory, path, &at)) return result;
  }
  if (!by_descriptor && at.left) return real::statx(AT_FDCWD, at.path, flags, mask, status);
  const int result = by_descriptor ? StatusOfFile(directory, &found)
                                   : hooks::fstatat(directory, path, &found, flags & AT_SYMLINK_NOFOLLOW);
  if (result != 0 || !HasRoom(status)) return -1;
  FillStatx(found, status);
  return 0;
}

int faccessat(int directory, const char* path, int mode, int flags) {
  if (HasOthers(mode, R_OK | W_OK | X_OK) ||
      HasOthers(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
    return real::faccessat(directory, path, mode, flags);
  const auto local = [&](int from, const char* name) { return real::faccessat(from, name, mode, flags); };
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    return OnProcess(process, directory, path, local,
                     [&](const char* name) { return AccessAtHome(name, mode, flags); });
  }
  return OnPath(directory, path, Ask(FileOperation::kAccess, mode, (flags & AT_SYMLINK_NOFOLLOW) == 0), local,
                true);
}
int access(const char* path, int mode) {
  return hooks::faccessat(AT_FDCWD, path, mode, 0);
}
int eaccess(const char* path, int mode) {
  return hooks::faccessat(AT_FDCWD, path, mode, AT_EACCESS);
}

int fchmodat(int directory, const char* path, mode_t mode, int flags) {
  if (HasOthers(flags, AT_SYMLINK_NOFOLLOW)) return real::fchmodat(directory, path, mode, flags);
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) {
        if ((flags & AT_SYMLINK_NOFOLLOW) != 0) {
          // A link has no mode of its own, as on any file system of Linux.
          struct stat found;
          if (AskStatus(&found, false)(at, call) < 0) return -1;
          if (S_ISLNK(found.st_mode)) {
            errno = EOPNOTSUPP;
            return -1;
          }
        }
        return Ask(FileOperation::kSetMode, mode, true)(at, call);
      },
      [&](int from, const char* name) { return real::fchmodat(from, name, mode, flags); });
}
int chmod(const char* path, mode_t mode) {
  return hooks::fchmodat(AT_FDCWD, path, mode, 0);
}
int lchmod(const char* path, mode_t mode) {
  return hooks::fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}
int fchownat(int directory, const char* path, uid_t user, gid_t group, int flags) {
  if (NamesDescriptor(directory, path, flags)) return hooks::fchown(directory, user, group);
  return OnPath(directory, path,
                Ask(FileOperation::kSetOwner, static_cast<int32_t>(user), static_cast<int32_t>(group),
                    (flags & AT_SYMLINK_NOFOLLOW) == 0),
                [&](int from, const char* name) { return real::fchownat(from, name, user, group, flags); });
}
int chown(const char* path, uid_t user, gid_t group) {
  return hooks::fchownat(AT_FDCWD, path, user, group, 0);
}
int lchown(const char* path, uid_t user, gid_t group) {
  return hooks::fchownat(AT_FDCWD, path, user, group, AT_SYMLINK_NOFOLLOW);
}

int utimensat(int directory, const char* path, const struct timespec* times, int flags) {
  if (path == nullptr) {
    errno = EINVAL;
    return -1;
  }
  return SetTimes(directory, path, times, flags);
}
int utimes(const char* path, const struct timeval* times) {
  timespec converted[2];
  return SetTimes(AT_FDCWD, path, ToTimespec(times, converted), 0);
}
int lutimes(const char* path, const struct timeval* times) {
  timespec converted[2];
  return SetTimes(AT_FDCWD, path, ToTimespec(times, converted), AT_SYMLINK_NOFOLLOW);
}
int futimesat(int directory, const char* path, const struct timeval* times) {
  timespec converted[2];
  if (path == nullptr && directory != AT_FDCWD)
    return hooks::futimens(directory, ToTimespec(times, converted));
  return SetTimes(directory, path, ToTimespec(times, converted), 0);
}
int utime(const char* path, const struct utimbuf* times) {
  timespec converted[2] = {};
  // Times that are not there are EFAULT to whoever looks at them.
  if (times == nullptr || !IsReadable(times, sizeof *times))
    return SetTimes(AT_FDCWD, path, reinterpret_cast<const timespec*>(times), 0);
  converted[0].tv_sec = times->actime;
  converted[1].tv_sec = times->modtime;
  return SetTimes(AT_FDCWD, path, converted, 0);
}

int truncate(const char* path, off_t size) {
  if (size < 0) {
    errno = EINVAL;
    return -1;
  }
  return OnPath(AT_FDCWD, path, Ask(FileOperation::kTruncate, size),
                [&](int, const char* name) { return real::truncate(name, size); });
}

}  // namespace hooks
}  // namespace elsewhere::preload
