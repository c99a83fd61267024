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

#include "preload/hooks.h"
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
  raw::Syscall(SYS_fcntl, to, F_SETSIG, raw::Syscall(SYS_fcntl, from, F_GETSIG));
  const long flags = raw::Syscall(SYS_fcntl, from, F_GETFL);
  const long own = raw::Syscall(SYS_fcntl, to, F_GETFL);
  if (flags >= 0 && own >= 0 && (flags & O_DIRECT) != 0) raw::Syscall(SYS_fcntl, to, F_SETFL, own | O_DIRECT);
  FindStream(to);
}

int Opened(int fd) {
  struct stat status;
  if (fd < 0 || raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) || !IsStreamObject(status))
    return fd;
  const int same = StreamWithObject(status, fd);
  if (same >= 0) CopyMark(same, fd);
  return fd;
}

// A worker's processes have no terminal of their own that "/dev/tty" could be.
bool IsOwnTerminal(const char* path, int fd) {
  return fd < 0 && errno == ENXIO && OnWorker() && strcmp(path, "/dev/tty") == 0;
}

FILE* Opened(FILE* stream) {
  if (stream != nullptr) Opened(fileno_unlocked(stream));
  return stream;
}

}  // namespace

namespace hooks {

int open(const char* path, int flags, mode_t mode) {
  const int fd = real::open(path, flags, mode);
  return Opened(IsOwnTerminal(path, fd) ? OpenControllingTerminal(flags) : fd);
}
int __open_2(const char* path, int flags) {
  const int fd = real::__open_2(path, flags);
  return Opened(IsOwnTerminal(path, fd) ? OpenControllingTerminal(flags) : fd);
}
int openat(int directory, const char* path, int flags, mode_t mode) {
  const int fd = real::openat(directory, path, flags, mode);
  return Opened(IsOwnTerminal(path, fd) ? OpenControllingTerminal(flags) : fd);
}
int __openat_2(int directory, const char* path, int flags) {
  const int fd = real::__openat_2(directory, path, flags);
  return Opened(IsOwnTerminal(path, fd) ? OpenControllingTerminal(flags) : fd);
}
FILE* fopen(const char* path, const char* mode) {
  return Opened(real::fopen(path, mode));
}
FILE* freopen(const char* path, const char* mode, FILE* stream) {
  return Opened(real::freopen(path, mode, stream));
}

}  // namespace hooks
}  // namespace elsewhere::preload
