// Opening a mapped path, and what comes with the agent's answers.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

void NameDescriptor(int fd, char (&to)[kDescriptorName]) {
  constexpr char kDirectory[] = "/proc/self/fd/";
  char digits[12];
  size_t count = 0, at = sizeof kDirectory - 1;
  memcpy(to, kDirectory, at);
  for (int number = fd; count == 0 || number > 0; number /= 10)
    digits[count++] = static_cast<char>('0' + number % 10);
  while (count > 0) to[at++] = digits[--count];
  to[at] = '\0';
}

namespace {

// Waits for the other end, as the kernel has it.
int OpenFifo(int flags, FileCall* call) {
  call->answer.text_size = 0;  // the call ends here
  char name[kDescriptorName];
  NameDescriptor(call->descriptor, name);
  const long fd = raw::Syscall(SYS_openat, AT_FDCWD, raw::Address(name), flags & ~(O_CREAT | O_NOFOLLOW));
  raw::Close(call->descriptor);
  if (fd >= 0) return static_cast<int>(fd);
  errno = static_cast<int>(-fd);
  return -1;
}

}  // namespace

int OpenMapped(const MappedPath& at, int flags, mode_t mode, FileCall* call) {
  call->operation = abi::FileOperation::kOpen;
  call->arguments[0] = flags;
  call->arguments[1] = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode & ~FileModeMask() : 0;
  const int64_t entry = CallFile(at, call);
  if (entry < 0) return call->descriptor < 0 ? -1 : OpenFifo(flags, call);
  if (call->descriptor < 0) {
    errno = EIO;
    return -1;
  }
  if ((flags & O_CLOEXEC) == 0) raw::Syscall(SYS_fcntl, call->descriptor, F_SETFD, 0);
  FileOpened(call->descriptor, entry, S_ISDIR(call->answer.status.mode));
  return call->descriptor;
}

int OpenIfMapped(int directory, const char* path, int flags, mode_t mode) {
  return OnPath(
      directory, path,
      [&](const MappedPath& at, FileCall* call) { return OpenMapped(at, flags, mode, call); },
      [&](int from, const char* name) {
        if (name == path) return -2;
        const long fd = raw::Syscall(SYS_openat, from, raw::Address(name), flags, mode);
        if (fd >= 0) return static_cast<int>(fd);
        errno = static_cast<int>(-fd);
        return -1;
      },
      (flags & (O_CREAT | __O_TMPFILE)) == 0);
}

void FillStatus(const abi::FileStatus& from, struct stat* to) {
  memset(to, 0, sizeof *to);
  to->st_dev = from.device;
  to->st_ino = from.inode;
  to->st_mode = from.mode;
  to->st_nlink = from.links;
  to->st_rdev = from.special;
  to->st_uid = from.uid;
  to->st_gid = from.gid;
  to->st_size = static_cast<off_t>(from.size);
  to->st_blksize = 128 << 10;
  to->st_blocks = static_cast<blkcnt_t>(from.blocks);
  const auto time = [](int64_t ns) {
    int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
    if (rest < 0) {
      rest += 1'000'000'000;
      --seconds;
    }
    return timespec{seconds, rest};
  };
  to->st_atim = time(from.atime_ns);
  to->st_mtim = time(from.mtime_ns);
  to->st_ctim = time(from.ctime_ns);
}

}  // namespace elsewhere::preload
