// Functions that name a file: what is mapped is asked of the agent, all else goes to libc.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "preload/agent.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileOperation;

// The creation mask; -1: not asked yet. Kept by the hook of umask.
constinit std::atomic<int> mask_known = -1;

// A call of that operation, as OnPath wants it.
auto Ask(FileOperation operation, int64_t first = 0, int64_t second = 0, int64_t third = 0,
         int64_t fourth = 0) {
  return [=](const MappedPath& at, FileCall* call) {
    call->operation = operation;
    call->arguments[0] = first;
    call->arguments[1] = second;
    call->arguments[2] = third;
    call->arguments[3] = fourth;
    return CallFile(at, call) < 0 ? -1 : 0;
  };
}

auto AskStatus(struct stat* status, bool follow) {
  return [=](const MappedPath& at, FileCall* call) {
    call->operation = FileOperation::kStatus;
    call->arguments[0] = follow ? 1 : 0;
    if (CallFile(at, call) < 0) return -1;
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
  if (path == nullptr) return hooks::futimens(directory, times);
  if ((flags & AT_EMPTY_PATH) != 0 && *path == '\0' && IsMapped(directory))
    return hooks::futimens(directory, times);
  MappedPath at;
  if (!FindMapped(directory, path, &at) && !at.left) return real::utimensat(directory, path, times, flags);
  if (!FileTimes(times, &atime, &mtime)) return -1;
  return OnPath(
      directory, path,
      Ask(FileOperation::kSetTimes, atime, mtime, (flags & AT_SYMLINK_NOFOLLOW) == 0, IsTouch(times)),
      [&](int from, const char* name) { return real::utimensat(from, name, times, flags); });
}

// One path of a rename, free of links that lead out of its map.
struct Place {
  bool mapped = false;
  int directory = AT_FDCWD;
  const char* path = nullptr;
  MappedPath at;
  char outside[abi::kFilePathSize];

  void Find() {
    mapped = FindMapped(directory, path, &at);
    if (mapped || !at.left) return;
    directory = AT_FDCWD;
    path = at.path;
  }
  void Lead(const FileCall& call) {
    memcpy(outside, call.answer.text, call.answer.text_size + 1);
    directory = AT_FDCWD;
    path = outside;
    Find();
  }
};

int Rename(int directory, const char* from, int to_directory, const char* to, unsigned flags) {
  Place source, target;
  source.directory = directory;
  source.path = from;
  target.directory = to_directory;
  target.path = to;
  source.Find();
  target.Find();
  for (int links = 0; links < 40; ++links) {
    if (!source.mapped && !target.mapped) {
      return flags == 0
                 ? real::renameat(source.directory, source.path, target.directory, target.path)
                 : real::renameat2(source.directory, source.path, target.directory, target.path, flags);
    }
    if (source.mapped != target.mapped || source.at.map != target.at.map) {
      errno = EXDEV;
      return -1;
    }
    FileCall call;
    call.operation = FileOperation::kRename;
    call.arguments[0] = flags;
    call.second = target.at.path;
    if (CallFile(source.at, &call) >= 0) return 0;
    if (call.answer.error != EREMOTE || call.answer.text_size == 0) return -1;
    (call.answer.result == -2 ? target : source).Lead(call);
  }
  errno = ELOOP;
  return -1;
}

// The descriptor that `from` names by /proc/self/fd or AT_EMPTY_PATH; -1: none.
int DescriptorNamed(int directory, const char* from, int flags) {
  if (from == nullptr) return -1;
  if (*from == '\0') return (flags & AT_EMPTY_PATH) != 0 ? directory : -1;
  constexpr char kOwn[] = "/proc/self/fd/";
  if ((flags & AT_SYMLINK_FOLLOW) == 0 || strncmp(from, kOwn, sizeof kOwn - 1) != 0) return -1;
  const char* digit = from + sizeof kOwn - 1;
  int fd = *digit == '\0' ? -1 : 0;
  for (; *digit >= '0' && *digit <= '9' && fd < 1000000; ++digit) fd = fd * 10 + (*digit - '0');
  return *digit == '\0' ? fd : -1;
}

// A name for an O_TMPFILE file; others have one, and objects have no second.
int Link(int directory, const char* from, int to_directory, const char* to, int flags) {
  MappedPath source, target;
  const int fd = DescriptorNamed(directory, from, flags);
  const bool of_descriptor = fd >= 0 && IsMappedFile(fd);
  const bool source_mapped = of_descriptor || FindMapped(directory, from, &source),
             target_mapped = FindMapped(to_directory, to, &target);
  if (!source_mapped && !target_mapped) {
    return real::linkat(source.left ? AT_FDCWD : directory, source.left ? source.path : from,
                        target.left ? AT_FDCWD : to_directory, target.left ? target.path : to, flags);
  }
  FileCall call;
  struct stat status;
  if (of_descriptor && target_mapped && !raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) {
    call.operation = FileOperation::kLinkFile;
    call.arguments[2] = static_cast<int64_t>(status.st_dev);
    call.arguments[3] = static_cast<int64_t>(status.st_ino);
    return CallFile(target, &call) < 0 ? -1 : 0;
  }
  if (!of_descriptor && source_mapped && target_mapped && source.map == target.map) {
    call.operation = FileOperation::kHardLink;
    call.second = target.path;
    return CallFile(source, &call) < 0 ? -1 : 0;
  }
  errno = EXDEV;
  return -1;
}

// What the kernel answered, as the program knows it: paths in a tree, and the local files of mapped ones.
ssize_t Translated(const char* path, char* buffer, ssize_t size, size_t room) {
  if (size <= 0) return size;
  char text[abi::kFilePathSize];
  size_t length = 0;
  if (static_cast<size_t>(size) < room &&
      FromTree(buffer, static_cast<size_t>(size), text, sizeof text, &length)) {
    if (length > room) length = room;
    memcpy(buffer, text, length);
    return static_cast<ssize_t>(length);
  }
  constexpr char kOwn[] = "/proc/self/fd/";
  const char* number = strncmp(path, kOwn, sizeof kOwn - 1) == 0 ? path + sizeof kOwn - 1
                       : strncmp(path, "/dev/fd/", 8) == 0       ? path + 8
                                                                 : nullptr;
  if (number == nullptr || *number < '0' || *number > '9') return size;
  int fd = 0;
  for (; *number >= '0' && *number <= '9' && fd < 100000; ++number) fd = fd * 10 + (*number - '0');
  struct stat status;
  if (*number != '\0' || !IsMappedFile(fd) || raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))))
    return size;
  MappedPath none;
  none.path[0] = '\0';
  FileCall call;
  call.operation = FileOperation::kName;
  call.arguments[0] = static_cast<int64_t>(status.st_dev);
  call.arguments[1] = static_cast<int64_t>(status.st_ino);
  const int before = errno;
  if (CallFile(none, &call) < 0) {
    errno = before;
    return size;
  }
  length = call.answer.text_size < room ? call.answer.text_size : room;
  memcpy(buffer, call.answer.text, length);
  return static_cast<ssize_t>(length);
}

ssize_t ReadLink(int directory, const char* path, char* buffer, size_t room) {
  if (const size_t size = SelfLink(path, buffer, room)) return static_cast<ssize_t>(size);
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    return OnProcess(
        process, directory, path,
        [&](int from, const char* name) { return real::readlinkat(from, name, buffer, room); },
        [&](const char* name) { return LinkAtHome(name, buffer, room); });
  }
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) -> ssize_t {
        if (Ask(FileOperation::kReadLink)(at, call) < 0) return -1;
        const size_t length = call->answer.text_size < room ? call->answer.text_size : room;
        memcpy(buffer, call->answer.text, length);
        return static_cast<ssize_t>(length);
      },
      [&](int from, const char* name) -> ssize_t {
        return Translated(name, buffer, real::readlinkat(from, name, buffer, room), room);
      });
}

[[noreturn]] void BufferTooSmall() {
  constexpr char kLine[] = "*** buffer overflow detected ***: terminated\n";
  raw::Syscall(SYS_write, 2, raw::Address(kLine), sizeof kLine - 1);
  abort();
}

int MakeNode(int directory, const char* path, mode_t mode, dev_t device, bool fifo) {
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) {
        const mode_t type = fifo ? S_IFIFO : mode & S_IFMT;
        return Ask(FileOperation::kMakeNode, type | (mode & 07777 & ~FileModeMask()))(at, call);
      },
      [&](int from, const char* name) {
        return fifo ? real::mkfifoat(from, name, mode) : real::mknodat(from, name, mode, device);
      });
}

// The letters of mkstemp and its kin, replaced by what `make` takes as a new name.
template <class Make>
int MakeTemporary(char* pattern, int suffix, Make make) {
  const size_t length = strlen(pattern);
  if (suffix < 0 || length < 6 + static_cast<size_t>(suffix) ||
      memcmp(pattern + length - static_cast<size_t>(suffix) - 6, "XXXXXX", 6) != 0) {
    errno = EINVAL;
    return -1;
  }
  char* letters = pattern + length - static_cast<size_t>(suffix) - 6;
  constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const int before = errno;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    uint8_t random[6];
    raw::Syscall(SYS_getrandom, raw::Address(random), sizeof random, 0);
    for (int i = 0; i < 6; ++i) letters[i] = kLetters[random[i] % (sizeof kLetters - 1)];
    const int result = make();
    if (result >= 0 || errno != EEXIST) {
      if (result >= 0) errno = before;
      return result;
    }
  }
  return -1;
}

int MakeTemporaryFile(char* pattern, int suffix, int flags) {
  return MakeTemporary(pattern, suffix, [&] {
    return hooks::open(pattern, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
  });
}

bool IsMappedPath(const char* path) {
  MappedPath at;
  return FindMapped(AT_FDCWD, path, &at);
}

}  // namespace

mode_t FileModeMask() {
  int known = mask_known.load(std::memory_order_relaxed);
  if (known < 0) {
    // Before any thread could see it: the first file is created, and nobody has asked for the mask through
    // us.
    const long mask = raw::Syscall(SYS_umask, 077);
    raw::Syscall(SYS_umask, mask);
    known = static_cast<int>(mask);
    mask_known.store(known, std::memory_order_relaxed);
  }
  return static_cast<mode_t>(known);
}

bool FileTimes(const struct timespec* times, int64_t* atime, int64_t* mtime) {
  if (times == nullptr) {
    *atime = *mtime = Now();
    return true;
  }
  return ToTime(times[0], atime) && ToTime(times[1], mtime);
}

const struct timespec* ToTimespec(const struct timeval* from, struct timespec* to) {
  if (from == nullptr) return nullptr;
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

namespace hooks {

mode_t umask(mode_t mask) {
  mask_known.store(static_cast<int>(mask & 0777), std::memory_order_relaxed);
  return real::umask(mask);
}

int creat(const char* path, mode_t mode) {
  return hooks::open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

// ---- Attributes

int fstatat(int directory, const char* path, struct stat* status, int flags) {
  if (path != nullptr && *path == '\0' && (flags & AT_EMPTY_PATH) != 0 && IsMapped(directory))
    return StatusOfFile(directory, status);
  const auto local = [&](int from, const char* name) { return real::fstatat(from, name, status, flags); };
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    return OnProcess(process, directory, path, local,
                     [&](const char* name) { return StatusAtHome(name, status, flags); });
  }
  return OnPath(directory, path, AskStatus(status, (flags & AT_SYMLINK_NOFOLLOW) == 0), local);
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
  struct stat found;
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    const int result = hooks::fstatat(directory, path, &found, flags & AT_SYMLINK_NOFOLLOW);
    if (result == 0) FillStatx(found, status);
    return result;
  }
  MappedPath at;
  const bool by_descriptor =
      path != nullptr && *path == '\0' && (flags & AT_EMPTY_PATH) != 0 && IsMapped(directory);
  if (!by_descriptor && !FindMapped(directory, path, &at) && !at.left)
    return real::statx(directory, path, flags, mask, status);
  if (!by_descriptor && at.left) return real::statx(AT_FDCWD, at.path, flags, mask, status);
  const int result = by_descriptor ? StatusOfFile(directory, &found)
                                   : hooks::fstatat(directory, path, &found, flags & AT_SYMLINK_NOFOLLOW);
  if (result == 0) FillStatx(found, status);
  return result;
}

int faccessat(int directory, const char* path, int mode, int flags) {
  const auto local = [&](int from, const char* name) { return real::faccessat(from, name, mode, flags); };
  ProcessPath process;
  if (FindProcess(directory, path, &process)) {
    return OnProcess(process, directory, path, local,
                     [&](const char* name) { return AccessAtHome(name, mode, flags); });
  }
  return OnPath(directory, path, Ask(FileOperation::kAccess, mode, (flags & AT_SYMLINK_NOFOLLOW) == 0),
                local);
}
int access(const char* path, int mode) {
  return hooks::faccessat(AT_FDCWD, path, mode, 0);
}
int eaccess(const char* path, int mode) {
  return hooks::faccessat(AT_FDCWD, path, mode, AT_EACCESS);
}

int fchmodat(int directory, const char* path, mode_t mode, int flags) {
  return OnPath(directory, path, Ask(FileOperation::kSetMode, mode, (flags & AT_SYMLINK_NOFOLLOW) == 0),
                [&](int from, const char* name) { return real::fchmodat(from, name, mode, flags); });
}
int chmod(const char* path, mode_t mode) {
  return hooks::fchmodat(AT_FDCWD, path, mode, 0);
}
int lchmod(const char* path, mode_t mode) {
  return hooks::fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}
int fchownat(int directory, const char* path, uid_t user, gid_t group, int flags) {
  if (path != nullptr && *path == '\0' && (flags & AT_EMPTY_PATH) != 0 && IsMapped(directory))
    return hooks::fchown(directory, user, group);
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
  return SetTimes(directory, path, ToTimespec(times, converted), 0);
}
int utime(const char* path, const struct utimbuf* times) {
  timespec converted[2] = {};
  if (times != nullptr) {
    converted[0].tv_sec = times->actime;
    converted[1].tv_sec = times->modtime;
  }
  return SetTimes(AT_FDCWD, path, times == nullptr ? nullptr : converted, 0);
}

int truncate(const char* path, off_t size) {
  if (size < 0) {
    errno = EINVAL;
    return -1;
  }
  return OnPath(AT_FDCWD, path, Ask(FileOperation::kTruncate, size),
                [&](int, const char* name) { return real::truncate(name, size); });
}

// ---- Names

int mkdirat(int directory, const char* path, mode_t mode) {
  return OnPath(directory, path,
                Ask(FileOperation::kMakeDirectory, HasMaps() ? mode & ~FileModeMask() : mode),
                [&](int from, const char* name) { return real::mkdirat(from, name, mode); });
}
int mkdir(const char* path, mode_t mode) {
  return hooks::mkdirat(AT_FDCWD, path, mode);
}
int unlinkat(int directory, const char* path, int flags) {
  const FileOperation operation =
      (flags & AT_REMOVEDIR) != 0 ? FileOperation::kRemoveDirectory : FileOperation::kUnlink;
  return OnPath(directory, path, Ask(operation),
                [&](int from, const char* name) { return real::unlinkat(from, name, flags); });
}
int unlink(const char* path) {
  return hooks::unlinkat(AT_FDCWD, path, 0);
}
int rmdir(const char* path) {
  return hooks::unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
int remove(const char* path) {
  if (!IsMappedPath(path)) return real::remove(path);
  if (hooks::unlink(path) == 0) return 0;
  return errno == EISDIR ? hooks::rmdir(path) : -1;
}
int rename(const char* from, const char* to) {
  return Rename(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int directory, const char* from, int to_directory, const char* to) {
  return Rename(directory, from, to_directory, to, 0);
}
int renameat2(int directory, const char* from, int to_directory, const char* to, unsigned flags) {
  return Rename(directory, from, to_directory, to, flags);
}
int link(const char* from, const char* to) {
  return Link(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int directory, const char* from, int to_directory, const char* to, int flags) {
  return Link(directory, from, to_directory, to, flags);
}
int symlinkat(const char* target, int directory, const char* path) {
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) {
        if (target == nullptr) {
          errno = EFAULT;
          return -1;
        }
        call->second = target;
        return Ask(FileOperation::kMakeLink)(at, call);
      },
      [&](int from, const char* name) { return real::symlinkat(target, from, name); });
}
int symlink(const char* target, const char* path) {
  return hooks::symlinkat(target, AT_FDCWD, path);
}
int mkfifoat(int directory, const char* path, mode_t mode) {
  return MakeNode(directory, path, mode, 0, true);
}
int mkfifo(const char* path, mode_t mode) {
  return MakeNode(AT_FDCWD, path, mode, 0, true);
}
int mknodat(int directory, const char* path, mode_t mode, dev_t device) {
  return MakeNode(directory, path, mode, device, false);
}
int mknod(const char* path, mode_t mode, dev_t device) {
  return MakeNode(AT_FDCWD, path, mode, device, false);
}

ssize_t readlink(const char* path, char* buffer, size_t size) {
  return ReadLink(AT_FDCWD, path, buffer, size);
}
ssize_t readlinkat(int directory, const char* path, char* buffer, size_t size) {
  return ReadLink(directory, path, buffer, size);
}
ssize_t __readlink_chk(const char* path, char* buffer, size_t size, size_t room) {
  if (size > room) BufferTooSmall();
  return ReadLink(AT_FDCWD, path, buffer, size);
}
ssize_t __readlinkat_chk(int directory, const char* path, char* buffer, size_t size, size_t room) {
  if (size > room) BufferTooSmall();
  return ReadLink(directory, path, buffer, size);
}

char* realpath(const char* path, char* resolved) {
  MappedPath at;
  if (!FindMapped(AT_FDCWD, path, &at)) return real::realpath(at.left ? at.path : path, resolved);
  char* answer = nullptr;
  const int result = OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& place, FileCall* call) {
        if (Ask(FileOperation::kResolve)(place, call) < 0) return -1;
        answer = resolved != nullptr ? strcpy(resolved, call->answer.text) : strdup(call->answer.text);
        return 0;
      },
      [&](int, const char* name) {
        answer = real::realpath(name, resolved);
        return answer == nullptr ? -1 : 0;
      });
  return result < 0 ? nullptr : answer;
}
char* __realpath_chk(const char* path, char* resolved, size_t room) {
  if (room < PATH_MAX) BufferTooSmall();
  return hooks::realpath(path, resolved);
}
char* canonicalize_file_name(const char* path) {
  return hooks::realpath(path, nullptr);
}

int mkostemps(char* pattern, int suffix, int flags) {
  return IsMappedPath(pattern) ? MakeTemporaryFile(pattern, suffix, flags)
                               : real::mkostemps(pattern, suffix, flags);
}
int mkstemp(char* pattern) {
  return hooks::mkostemps(pattern, 0, 0);
}
int mkostemp(char* pattern, int flags) {
  return hooks::mkostemps(pattern, 0, flags);
}
int mkstemps(char* pattern, int suffix) {
  return hooks::mkostemps(pattern, suffix, 0);
}
char* mkdtemp(char* pattern) {
  if (!IsMappedPath(pattern)) return real::mkdtemp(pattern);
  return MakeTemporary(pattern, 0, [&] { return hooks::mkdir(pattern, 0700); }) == 0 ? pattern : nullptr;
}

}  // namespace hooks
}  // namespace elsewhere::preload
