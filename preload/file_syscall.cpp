// System calls that a program makes by their numbers, through libc's syscall(): those about files become the
// function of that name, which knows mapped ones. (Older programs, and those that test the kernel.)
#include "preload/file_syscall.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace elsewhere::preload {
namespace {

template <class T>
T* To(long argument) {
  return reinterpret_cast<T*>(argument);
}
const char* Path(long argument) {
  return To<const char>(argument);
}
int Int(long argument) {
  return static_cast<int>(argument);
}
mode_t Mode(long argument) {
  return static_cast<mode_t>(argument);
}
uid_t Id(long argument) {
  return static_cast<uid_t>(argument);
}
size_t Size(long argument) {
  return static_cast<size_t>(argument);
}

bool OfDescriptor(long number, long a, long b, long c, long d, long* result) {
  switch (number) {
    case SYS_read:
      return *result = read(Int(a), To<void>(b), Size(c)), true;
    case SYS_write:
      return *result = write(Int(a), To<void>(b), Size(c)), true;
    case SYS_pread64:
      return *result = pread(Int(a), To<void>(b), Size(c), d), true;
    case SYS_pwrite64:
      return *result = pwrite(Int(a), To<void>(b), Size(c), d), true;
    case SYS_readv:
      return *result = readv(Int(a), To<iovec>(b), Int(c)), true;
    case SYS_writev:
      return *result = writev(Int(a), To<iovec>(b), Int(c)), true;
    case SYS_lseek:
      return *result = lseek(Int(a), b, Int(c)), true;
    case SYS_ftruncate:
      return *result = ftruncate(Int(a), b), true;
    case SYS_fallocate:
      return *result = fallocate(Int(a), Int(b), c, d), true;
    case SYS_fsync:
      return *result = fsync(Int(a)), true;
    case SYS_fdatasync:
      return *result = fdatasync(Int(a)), true;
    case SYS_fchmod:
      return *result = fchmod(Int(a), Mode(b)), true;
    case SYS_fchown:
      return *result = fchown(Int(a), Id(b), Id(c)), true;
    case SYS_fchdir:
      return *result = fchdir(Int(a)), true;
    case SYS_fstat:
      return *result = fstat(Int(a), To<struct stat>(b)), true;
    case SYS_fstatfs:
      return *result = fstatfs(Int(a), To<struct statfs>(b)), true;
    case SYS_close:
      return *result = close(Int(a)), true;
    case SYS_dup:
      return *result = dup(Int(a)), true;
    case SYS_dup3:
      return *result = dup3(Int(a), Int(b), Int(c)), true;
    default:
      return false;
  }
}

// A position in two halves is one number on machines of 64 bits.
bool OfParts(long number, long a, long b, long c, long d, long f, long* result) {
  switch (number) {
    case SYS_preadv:
      return *result = preadv(Int(a), To<iovec>(b), Int(c), d), true;
    case SYS_pwritev:
      return *result = pwritev(Int(a), To<iovec>(b), Int(c), d), true;
    case SYS_preadv2:
      return *result = preadv2(Int(a), To<iovec>(b), Int(c), d, Int(f)), true;
    case SYS_pwritev2:
      return *result = pwritev2(Int(a), To<iovec>(b), Int(c), d, Int(f)), true;
    default:
      return false;
  }
}

bool BetweenDescriptors(long number, long a, long b, long c, long d, long e, long f, long* result) {
  switch (number) {
    case SYS_copy_file_range:
      return *result = copy_file_range(Int(a), To<off64_t>(b), Int(c), To<off64_t>(d), Size(e),
                                       static_cast<unsigned>(f)),
             true;
    case SYS_splice:
      return *result =
                 splice(Int(a), To<off64_t>(b), Int(c), To<off64_t>(d), Size(e), static_cast<unsigned>(f)),
             true;
    case SYS_sendfile:
      return *result = sendfile(Int(a), Int(b), To<off_t>(c), Size(d)), true;
    case SYS_flock:
      return *result = flock(Int(a), Int(b)), true;
    case SYS_fcntl:
      return *result = fcntl(Int(a), Int(b), c), true;
    case SYS_ioctl:
      return *result = ioctl(Int(a), static_cast<unsigned long>(b), c), true;
    case SYS_syncfs:
      return *result = syncfs(Int(a)), true;
    case SYS_close_range:
      return *result = close_range(static_cast<unsigned>(a), static_cast<unsigned>(b), Int(c)), true;
    default:
      return false;
  }
}

#ifdef __x86_64__
// Those that newer architectures have with a directory only.
bool OfPath(long number, long a, long b, long c, long* result) {
  switch (number) {
    case SYS_open:
      return *result = open(Path(a), Int(b), c), true;
    case SYS_creat:
      return *result = creat(Path(a), Mode(b)), true;
    case SYS_stat:
      return *result = stat(Path(a), To<struct stat>(b)), true;
    case SYS_lstat:
      return *result = lstat(Path(a), To<struct stat>(b)), true;
    case SYS_access:
      return *result = access(Path(a), Int(b)), true;
    case SYS_mkdir:
      return *result = mkdir(Path(a), Mode(b)), true;
    case SYS_rmdir:
      return *result = rmdir(Path(a)), true;
    case SYS_mknod:
      return *result = mknod(Path(a), Mode(b), Size(c)), true;
    case SYS_unlink:
      return *result = unlink(Path(a)), true;
    case SYS_rename:
      return *result = rename(Path(a), Path(b)), true;
    case SYS_link:
      return *result = link(Path(a), Path(b)), true;
    case SYS_symlink:
      return *result = symlink(Path(a), Path(b)), true;
    case SYS_readlink:
      return *result = readlink(Path(a), To<char>(b), Size(c)), true;
    case SYS_chmod:
      return *result = chmod(Path(a), Mode(b)), true;
    case SYS_chown:
      return *result = chown(Path(a), Id(b), Id(c)), true;
    case SYS_lchown:
      return *result = lchown(Path(a), Id(b), Id(c)), true;
    case SYS_dup2:
      return *result = dup2(Int(a), Int(b)), true;
    default:
      return false;
  }
}
#else
bool OfPath(long, long, long, long, long*) {
  return false;
}
#endif

bool SeenFromDirectory(long number, long a, long b, long c, long d, long e, long* result) {
  switch (number) {
    case SYS_openat:
      return *result = openat(Int(a), Path(b), Int(c), d), true;
    case SYS_newfstatat:
      return *result = fstatat(Int(a), Path(b), To<struct stat>(c), Int(d)), true;
    case SYS_statx:
      return *result = statx(Int(a), Path(b), Int(c), static_cast<unsigned>(d), To<struct statx>(e)), true;
    case SYS_faccessat:
      return *result = faccessat(Int(a), Path(b), Int(c), 0), true;
    case SYS_faccessat2:
      return *result = faccessat(Int(a), Path(b), Int(c), Int(d)), true;
    case SYS_mkdirat:
      return *result = mkdirat(Int(a), Path(b), Mode(c)), true;
    case SYS_mknodat:
      return *result = mknodat(Int(a), Path(b), Mode(c), Size(d)), true;
    case SYS_unlinkat:
      return *result = unlinkat(Int(a), Path(b), Int(c)), true;
    case SYS_renameat:
      return *result = renameat(Int(a), Path(b), Int(c), Path(d)), true;
    case SYS_renameat2:
      return *result = renameat2(Int(a), Path(b), Int(c), Path(d), static_cast<unsigned>(e)), true;
    case SYS_linkat:
      return *result = linkat(Int(a), Path(b), Int(c), Path(d), Int(e)), true;
    case SYS_symlinkat:
      return *result = symlinkat(Path(a), Int(b), Path(c)), true;
    case SYS_readlinkat:
      return *result = readlinkat(Int(a), Path(b), To<char>(c), Size(d)), true;
    case SYS_fchmodat:
      return *result = fchmodat(Int(a), Path(b), Mode(c), 0), true;
    case SYS_fchownat:
      return *result = fchownat(Int(a), Path(b), Id(c), Id(d), Int(e)), true;
    case SYS_utimensat:
      return *result = utimensat(Int(a), Path(b), To<timespec>(c), Int(d)), true;
    case SYS_truncate:
      return *result = truncate(Path(a), b), true;
    case SYS_chdir:
      return *result = chdir(Path(a)), true;
    case SYS_statfs:
      return *result = statfs(Path(a), To<struct statfs>(b)), true;
    case SYS_inotify_add_watch:
      return *result = inotify_add_watch(Int(a), Path(b), static_cast<uint32_t>(c)), true;
    default:
      return false;
  }
}

bool OfAttribute(long number, long a, long b, long c, long d, long e, long* result) {
  switch (number) {
    case SYS_getxattr:
      return *result = getxattr(Path(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_lgetxattr:
      return *result = lgetxattr(Path(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_fgetxattr:
      return *result = fgetxattr(Int(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_setxattr:
      return *result = setxattr(Path(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_lsetxattr:
      return *result = lsetxattr(Path(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_fsetxattr:
      return *result = fsetxattr(Int(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_listxattr:
      return *result = listxattr(Path(a), To<char>(b), Size(c)), true;
    case SYS_llistxattr:
      return *result = llistxattr(Path(a), To<char>(b), Size(c)), true;
    case SYS_flistxattr:
      return *result = flistxattr(Int(a), To<char>(b), Size(c)), true;
    case SYS_removexattr:
      return *result = removexattr(Path(a), Path(b)), true;
    case SYS_lremovexattr:
      return *result = lremovexattr(Path(a), Path(b)), true;
    case SYS_fremovexattr:
      return *result = fremovexattr(Int(a), Path(b)), true;
    default:
      return false;
  }
}

// The call answers the length with the final zero; libc the buffer, or a longer one.
long CurrentDirectory(char* buffer, size_t size) {
  return getcwd(buffer, size) == nullptr ? -1 : static_cast<long>(strlen(buffer)) + 1;
}

}  // namespace

bool FileSyscall(long number, long a, long b, long c, long d, long e, long f, long* result) {
  if (number == SYS_getcwd && To<char>(a) != nullptr)
    return *result = CurrentDirectory(To<char>(a), Size(b)), true;
  return OfDescriptor(number, a, b, c, d, result) || OfParts(number, a, b, c, d, f, result) ||
         BetweenDescriptors(number, a, b, c, d, e, f, result) || OfPath(number, a, b, c, result) ||
         SeenFromDirectory(number, a, b, c, d, e, result) || OfAttribute(number, a, b, c, d, e, result);
}

}  // namespace elsewhere::preload
