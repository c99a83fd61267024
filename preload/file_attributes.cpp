// Extended attributes of mapped files, and the file system's figures and limits.
#include <errno.h>
#include <limits.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileOperation;

// What a call names: the path that FindMapped found, or the file behind a descriptor.
struct Attribute {
  FileOperation operation;
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  int flags = 0;
};

// Name, zero, value. More than an object carries needs no asking.
bool Join(const Attribute& asked, char* room, FileCall* call) {
  const size_t length = strlen(asked.name);
  if (asked.size > XATTR_SIZE_MAX || length > XATTR_NAME_MAX ||
      length + 1 + asked.size >= abi::kFilePathSize) {
    errno = asked.size > XATTR_SIZE_MAX ? E2BIG : length > XATTR_NAME_MAX ? ERANGE : ENOSPC;
    return false;
  }
  memcpy(room, asked.name, length + 1);
  if (asked.size > 0 &&
      !CopyProgramMemory(SYS_process_vm_readv, room + length + 1, const_cast<void*>(asked.value), asked.size))
    return false;
  call->second = room;
  call->second_size = length + 1 + asked.size;
  return true;
}

int AskAttribute(const MappedPath& at, const Attribute& asked, FileCall* call) {
  char joined[abi::kFilePathSize];
  if (asked.operation != FileOperation::kListXattr && !IsReadable(asked.name)) {
    errno = call->answer.error = EFAULT;
    return -1;
  }
  call->operation = asked.operation;
  call->arguments[0] = asked.flags;
  call->second = asked.name;
  call->second_size = SIZE_MAX;
  if (asked.operation == FileOperation::kSetXattr && !Join(asked, joined, call)) {
    call->answer.error = errno;
    return -1;
  }
  return CallFile(at, call) < 0 ? -1 : 0;
}

ssize_t CopyOut(const FileCall& call, void* to, size_t room) {
  const size_t length = call.answer.text_size;
  if (room == 0) return static_cast<ssize_t>(length);
  if (length > room) {
    errno = ERANGE;
    return -1;
  }
  if (!CopyProgramMemory(SYS_process_vm_writev, const_cast<char*>(call.answer.text), to, length)) return -1;
  return static_cast<ssize_t>(length);
}

template <class Local>
ssize_t OfPath(const char* path, bool follow, const Attribute& asked, void* to, size_t room, Local local) {
  return OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& at, FileCall* call) -> ssize_t {
        call->arguments[1] = follow ? 1 : 0;
        if (AskAttribute(at, asked, call) < 0) return -1;
        return CopyOut(*call, to, room);
      },
      [&](int, const char* name) -> ssize_t { return local(name); });
}

ssize_t OfFile(int fd, const Attribute& asked, void* to, size_t room) {
  MappedPath at;
  FileCall call;
  at.path[0] = '\0';
  if (IsMappedFile(fd)) {
    struct stat status;
    if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) {
      errno = EBADF;
      return -1;
    }
    call.arguments[2] = static_cast<int64_t>(status.st_dev);
    call.arguments[3] = static_cast<int64_t>(status.st_ino);
  } else if (!FindMapped(fd, ".", &at)) {
    errno = EBADF;
    return -1;
  }
  call.arguments[1] = 1;
  if (AskAttribute(at, asked, &call) < 0) return -1;
  return CopyOut(call, to, room);
}

Attribute Get(const char* name) {
  return {.operation = FileOperation::kGetXattr, .name = name};
}
Attribute List() {
  return {.operation = FileOperation::kListXattr};
}
Attribute Set(const char* name, const void* value, size_t size, int flags) {
  return {FileOperation::kSetXattr, name, value, size, flags};
}
Attribute Remove(const char* name) {
  return {.operation = FileOperation::kRemoveXattr, .name = name};
}

// A bucket has no size; what is told is that there is room.
constexpr uint64_t kBlock = 4096, kRoom = 1ull << 38;

void Figures(struct statfs* to) {
  memset(to, 0, sizeof *to);
  to->f_type = FUSE_SUPER_MAGIC;
  to->f_bsize = to->f_frsize = kBlock;
  to->f_blocks = to->f_bfree = to->f_bavail = kRoom;
  to->f_files = to->f_ffree = kRoom;
  to->f_namelen = NAME_MAX;
  to->f_flags = ST_NODEV;
}
void Figures(struct statvfs* to) {
  memset(to, 0, sizeof *to);
  to->f_bsize = to->f_frsize = kBlock;
  to->f_blocks = to->f_bfree = to->f_bavail = kRoom;
  to->f_files = to->f_ffree = to->f_favail = kRoom;
  to->f_namemax = NAME_MAX;
  to->f_flag = ST_NODEV;
}

template <class Status, class Local>
int FiguresOf(const char* path, Status* status, Local local) {
  return OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& at, FileCall* call) {
        call->operation = FileOperation::kStatus;
        call->arguments[0] = 1;
        if (CallFile(at, call) < 0 || !HasRoom(status)) return -1;
        Figures(status);
        return 0;
      },
      [&](int, const char* name) { return local(name, status); });
}

// Of a name on which nothing depends but the file system.
long Limit(int name) {
  switch (name) {
    case _PC_NAME_MAX:
      return NAME_MAX;
    case _PC_LINK_MAX:
    case _PC_2_SYMLINKS:
      return 1;
    case _PC_FILESIZEBITS:
      return 64;
    default:
      return real::pathconf("/", name);
  }
}

// How long a path may be depends on where it begins: all of it is one key.
long LimitAt(const MappedPath& at, FileCall* call, int name) {
  call->operation = FileOperation::kLongestPath;
  const int64_t longest = CallFile(at, call);
  return longest < 0 ? -1 : name == _PC_PATH_MAX ? static_cast<long>(longest) : Limit(name);
}

}  // namespace

long LimitOfMapped(int fd, int name) {
  MappedPath at;
  FileCall call;
  return !IsMappedFile(fd) && FindMapped(fd, ".", &at) ? LimitAt(at, &call, name) : Limit(name);
}

namespace hooks {

long pathconf(const char* path, int name) {
  return OnPath(
      AT_FDCWD, path, [&](const MappedPath& at, FileCall* call) { return LimitAt(at, call, name); },
      [&](int, const char* local) { return real::pathconf(local, name); });
}

ssize_t getxattr(const char* path, const char* name, void* value, size_t size) {
  return OfPath(path, true, Get(name), value, size,
                [&](const char* at) { return real::getxattr(at, name, value, size); });
}
ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size) {
  return OfPath(path, false, Get(name), value, size,
                [&](const char* at) { return real::lgetxattr(at, name, value, size); });
}
ssize_t fgetxattr(int fd, const char* name, void* value, size_t size) {
  if (IsOutputFile(fd)) return output::fgetxattr(fd, name, value, size);
  return OfFile(fd, Get(name), value, size);
}
int setxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return static_cast<int>(OfPath(path, true, Set(name, value, size, flags), nullptr, 0, [&](const char* at) {
    return real::setxattr(at, name, value, size, flags);
  }));
}
int lsetxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return static_cast<int>(OfPath(path, false, Set(name, value, size, flags), nullptr, 0, [&](const char* at) {
    return real::lsetxattr(at, name, value, size, flags);
  }));
}
int fsetxattr(int fd, const char* name, const void* value, size_t size, int flags) {
  if (IsOutputFile(fd)) return output::fsetxattr(fd, name, value, size, flags);
  return static_cast<int>(OfFile(fd, Set(name, value, size, flags), nullptr, 0));
}
ssize_t listxattr(const char* path, char* list, size_t size) {
  return OfPath(path, true, List(), list, size,
                [&](const char* at) { return real::listxattr(at, list, size); });
}
ssize_t llistxattr(const char* path, char* list, size_t size) {
  return OfPath(path, false, List(), list, size,
                [&](const char* at) { return real::llistxattr(at, list, size); });
}
ssize_t flistxattr(int fd, char* list, size_t size) {
  if (IsOutputFile(fd)) return output::flistxattr(fd, list, size);
  return OfFile(fd, List(), list, size);
}
int removexattr(const char* path, const char* name) {
  return static_cast<int>(OfPath(path, true, Remove(name), nullptr, 0,
                                 [&](const char* at) { return real::removexattr(at, name); }));
}
int lremovexattr(const char* path, const char* name) {
  return static_cast<int>(OfPath(path, false, Remove(name), nullptr, 0,
                                 [&](const char* at) { return real::lremovexattr(at, name); }));
}
int fremovexattr(int fd, const char* name) {
  if (IsOutputFile(fd)) return output::fremovexattr(fd, name);
  return static_cast<int>(OfFile(fd, Remove(name), nullptr, 0));
}

int statfs(const char* path, struct statfs* status) {
  return FiguresOf(path, status, [](const char* at, struct statfs* to) { return real::statfs(at, to); });
}
int statvfs(const char* path, struct statvfs* status) {
  return FiguresOf(path, status, [](const char* at, struct statvfs* to) { return real::statvfs(at, to); });
}
int fstatfs(int fd, struct statfs* status) {
  if (IsOutputFile(fd)) return output::fstatfs(fd, status);
  if (!HasRoom(status)) return -1;
  Figures(status);
  return 0;
}
int fstatvfs(int fd, struct statvfs* status) {
  if (IsOutputFile(fd)) return output::fstatvfs(fd, status);
  if (!HasRoom(status)) return -1;
  Figures(status);
  return 0;
}

}  // namespace hooks
}  // namespace elsewhere::preload
