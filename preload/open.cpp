// Paths that name an open descriptor: /dev/fd/N, /proc/self/fd/N, /dev/stdin and its kin, /dev/tty.
//
// Opening one of a pipe or terminal makes another open file description of the same kernel object. Where that
// object stands for one on another host, the new description lacks the mark by which the process (and what it
// executes) finds it, and for output the packets that keep records apart: both are copied here. Which
// descriptor a path leads to is the kernel's business (symbolic links, relative paths, chroot); what came
// back is looked at instead: it is known by its kernel object, of which a process holds few.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "preload/terminal.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

bool IsStreamObject(const struct stat& status) {
  return S_ISFIFO(status.st_mode) || (S_ISCHR(status.st_mode) && major(status.st_rdev) != 1);
}

// The first descriptor of a stream whose local object is the one of `status`, or -1.
int StreamWithObject(const struct stat& status, int except) {
  for (int fd = 0; fd < static_cast<int>(kDescriptorCount); ++fd) {
    if (fd == except || !IsKnown(fd) || IsOwn(fd)) continue;
    struct stat other;
    if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&other)))) continue;
    if (other.st_dev == status.st_dev && other.st_ino == status.st_ino) return fd;
  }
  return -1;
}

// Leaves errno alone.
void CopyMark(int from, int to) {
  const KeptPlace kept(from);
  raw::Syscall(SYS_fcntl, to, F_SETSIG, raw::Syscall(SYS_fcntl, from, F_GETSIG));
  const long flags = raw::Syscall(SYS_fcntl, from, F_GETFL);
  const long own = raw::Syscall(SYS_fcntl, to, F_GETFL);
  if (flags >= 0 && own >= 0 && (flags & O_DIRECT) != 0) raw::Syscall(SYS_fcntl, to, F_SETFL, own | O_DIRECT);
  FindStream(to);
}

int Opened(int fd, int flags) {
  if (fd < 0 || !HasStreams()) return fd;
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) || !IsStreamObject(status)) return fd;
  const int same = StreamWithObject(status, fd);
  if (same >= 0 && IsOutputFile(same) && (flags & O_PATH) == 0 && OpenOutputFile(&fd, same, flags)) return fd;
  if (same >= 0) CopyMark(same, fd);
  return fd;
}

// A worker's processes have no terminal of their own that "/dev/tty" could be.
bool IsOwnTerminal(const char* path, int fd) {
  return fd < 0 && errno == ENXIO && OnWorker() && strcmp(path, "/dev/tty") == 0;
}

FILE* Opened(FILE* stream) {
  if (stream != nullptr) Opened(fileno_unlocked(stream), O_PATH);
  return stream;
}

// What the kernel's open answered, or the mapped file that a link on the local disk leads to.
int BehindLinks(int fd, int directory, const char* path, int flags, mode_t mode) {
  MappedPath at;
  if (fd >= 0 || errno != ENOENT || !HasMaps() || !FindBehindLinks(directory, path, &at)) return fd;
  FileCall call;
  return OpenMapped(at, flags, mode, &call);
}

// What open(2) is asked for by fopen's mode; -1: it is no mode.
int FlagsOf(const char* mode) {
  int flags = *mode == 'r'   ? O_RDONLY
              : *mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
                             : O_WRONLY | O_CREAT | O_APPEND;
  if (*mode != 'r' && *mode != 'w' && *mode != 'a') return -1;
  for (++mode; *mode != '\0' && *mode != ','; ++mode) {
    if (*mode == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (*mode == 'x') flags |= O_EXCL;
    if (*mode == 'e') flags |= O_CLOEXEC;
  }
  return flags;
}

// The descriptor of a mapped file for a stream, whose buffer libc fills and empties without a hook; -2: the
// path is not mapped.
int OpenForStream(const char* path, const char* mode) {
  const int flags = FlagsOf(mode);
  if (!HasMaps() || flags < 0) return -2;
  const int fd = OpenIfMapped(AT_FDCWD, path, flags, 0666);
  if (fd < 0 || !IsMappedFile(fd)) return fd;
  const bool writes = (flags & O_ACCMODE) != O_RDONLY && (flags & O_APPEND) == 0;
  if ((writes || (flags & O_ACCMODE) != O_WRONLY) && !MakeWholeForStdio(fd, writes)) {
    const int error = errno;
    hooks::close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

}  // namespace

namespace hooks {

int open(const char* path, int flags, mode_t mode) {
  int process;
  if (OpenProcessFile(AT_FDCWD, path, flags, &process)) return Opened(process, flags);
  if (HasMaps()) {
    const int fd = OpenIfMapped(AT_FDCWD, path, flags, mode);
    if (fd != -2) return fd;
  }
  int fd = real::open(path, flags, mode);
  if (IsOwnTerminal(path, fd)) fd = OpenControllingTerminal(flags);
  fd = BehindLinks(fd, AT_FDCWD, path, flags, mode);
  return Opened(fd, flags);
}
int __open_2(const char* path, int flags) {
  int process;
  if (OpenProcessFile(AT_FDCWD, path, flags, &process)) return Opened(process, flags);
  if (HasMaps()) {
    const int fd = OpenIfMapped(AT_FDCWD, path, flags, 0);
    if (fd != -2) return fd;
  }
  int fd = real::__open_2(path, flags);
  if (IsOwnTerminal(path, fd)) fd = OpenControllingTerminal(flags);
  fd = BehindLinks(fd, AT_FDCWD, path, flags, 0);
  return Opened(fd, flags);
}
int openat(int directory, const char* path, int flags, mode_t mode) {
  int process;
  if (OpenProcessFile(directory, path, flags, &process)) return Opened(process, flags);
  if (HasMaps()) {
    const int fd = OpenIfMapped(directory, path, flags, mode);
    if (fd != -2) return fd;
  }
  int fd = real::openat(directory, path, flags, mode);
  if (IsOwnTerminal(path, fd)) fd = OpenControllingTerminal(flags);
  fd = BehindLinks(fd, directory, path, flags, mode);
  return Opened(fd, flags);
}
int __openat_2(int directory, const char* path, int flags) {
  int process;
  if (OpenProcessFile(directory, path, flags, &process)) return Opened(process, flags);
  if (HasMaps()) {
    const int fd = OpenIfMapped(directory, path, flags, 0);
    if (fd != -2) return fd;
  }
  int fd = real::__openat_2(directory, path, flags);
  if (IsOwnTerminal(path, fd)) fd = OpenControllingTerminal(flags);
  fd = BehindLinks(fd, directory, path, flags, 0);
  return Opened(fd, flags);
}
FILE* fdopen(int fd, const char* mode) {
  if (IsOutputFile(fd)) return output::fdopen(fd, mode);
  const int flags = static_cast<int>(raw::Syscall(SYS_fcntl, fd, F_GETFL));
  const bool writes =
      flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && (flags & O_APPEND) == 0 && *mode != 'r';
  const bool changes = flags >= 0 && (flags & O_ACCMODE) == O_RDWR && strchr(mode, '+') != nullptr;
  if (((flags & O_ACCMODE) != O_WRONLY || writes) && !MakeWholeForStdio(fd, writes || changes))
    return nullptr;
  return real::fdopen(fd, mode);
}
FILE* fopen(const char* path, const char* mode) {
  int fd = -2;
  const int flags = FlagsOf(mode);
  if (flags < 0 || !OpenProcessFile(AT_FDCWD, path, flags, &fd)) fd = OpenForStream(path, mode);
  if (fd == -1) return nullptr;
  if (fd >= 0) {
    FILE* stream = real::fdopen(fd, mode);
    if (stream == nullptr) hooks::close(fd);
    return stream;
  }
  FILE* stream = real::fopen(path, mode);
  return HasStreams() ? Opened(stream) : stream;
}
// Libc closes the stream's descriptor and opens the path under the same number: for a mapped one it gets the
// new descriptor's name, which makes another description of the same local file.
FILE* freopen(const char* path, const char* mode, FILE* stream) {
  const int old = fileno_unlocked(stream);
  if (IsMappedFile(old)) {
    real::fflush(stream);
    FileCloses(old);
  }
  const int fd = path == nullptr ? -2 : OpenForStream(path, mode);
  if (fd >= 0) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    // The file is as the mode wants it; truncating the local one again would not be noticed.
    FILE* opened =
        real::freopen(name, *mode == 'w' ? (strchr(mode, '+') != nullptr ? "r+" : "a") : mode, stream);
    if (opened != nullptr) {
      const int number = fileno_unlocked(opened);
      raw::Syscall(SYS_fcntl, number, F_SETSIG, raw::Syscall(SYS_fcntl, fd, F_GETSIG));
      FileCopied(fd, number);
    }
    hooks::close(fd);
    return opened;
  }
  if (fd == -1) {
    const int error = errno;
    real::fclose(stream);
    errno = error;
    return nullptr;
  }
  FILE* opened = real::freopen(path, mode, stream);
  return HasStreams() ? Opened(opened) : opened;
}

}  // namespace hooks
}  // namespace elsewhere::preload
