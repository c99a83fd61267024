// System calls that a program makes by their numbers, through libc's syscall(): those about files become the
// function of that name, which knows mapped ones and, on a worker, those of other hosts. (Older programs, and
// those that test the kernel.)
#include "preload/file_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "preload/by_name.h"
#include "preload/files.h"

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

long Address(void* memory) {
  return reinterpret_cast<long>(memory);
}

bool OfDescriptor(long number, long a, long b, long c, long d, long* result) {
  switch (number) {
    case SYS_read:
      return *result = by_name::read(Int(a), To<void>(b), Size(c)), true;
    case SYS_write:
      return *result = by_name::write(Int(a), To<void>(b), Size(c)), true;
    case SYS_pread64:
      return *result = by_name::pread(Int(a), To<void>(b), Size(c), d), true;
    case SYS_pwrite64:
      return *result = by_name::pwrite(Int(a), To<void>(b), Size(c), d), true;
    case SYS_readv:
      return *result = by_name::readv(Int(a), To<iovec>(b), Int(c)), true;
    case SYS_writev:
      return *result = by_name::writev(Int(a), To<iovec>(b), Int(c)), true;
    case SYS_lseek:
      return *result = by_name::lseek(Int(a), b, Int(c)), true;
    case SYS_ftruncate:
      return *result = by_name::ftruncate(Int(a), b), true;
    case SYS_fallocate:
      return *result = by_name::fallocate(Int(a), Int(b), c, d), true;
    case SYS_fsync:
      return *result = by_name::fsync(Int(a)), true;
    case SYS_fdatasync:
      return *result = by_name::fdatasync(Int(a)), true;
    case SYS_fchmod:
      return *result = by_name::fchmod(Int(a), Mode(b)), true;
    case SYS_fchown:
      return *result = by_name::fchown(Int(a), Id(b), Id(c)), true;
    case SYS_fchdir:
      return *result = by_name::fchdir(Int(a)), true;
    case SYS_fstat:
      return *result = by_name::fstat(Int(a), To<struct stat>(b)), true;
    case SYS_fstatfs:
      return *result = by_name::fstatfs(Int(a), To<struct statfs>(b)), true;
    case SYS_close:
      return *result = by_name::close(Int(a)), true;
    case SYS_dup:
      return *result = by_name::dup(Int(a)), true;
    case SYS_dup3:
      return *result = by_name::dup3(Int(a), Int(b), Int(c)), true;
    default:
      return false;
  }
}

// A position in two halves is one number on machines of 64 bits.
bool OfParts(long number, long a, long b, long c, long d, long f, long* result) {
  switch (number) {
    case SYS_preadv:
      return *result = by_name::preadv(Int(a), To<iovec>(b), Int(c), d), true;
    case SYS_pwritev:
      return *result = by_name::pwritev(Int(a), To<iovec>(b), Int(c), d), true;
    case SYS_preadv2:
      return *result = by_name::preadv2(Int(a), To<iovec>(b), Int(c), d, Int(f)), true;
    case SYS_pwritev2:
      return *result = by_name::pwritev2(Int(a), To<iovec>(b), Int(c), d, Int(f)), true;
    default:
      return false;
  }
}

bool BetweenDescriptors(long number, long a, long b, long c, long d, long e, long f, long* result) {
  switch (number) {
    case SYS_copy_file_range:
      return *result = by_name::copy_file_range(Int(a), To<off64_t>(b), Int(c), To<off64_t>(d), Size(e),
                                                static_cast<unsigned>(f)),
             true;
    case SYS_splice:
      return *result = by_name::splice(Int(a), To<off64_t>(b), Int(c), To<off64_t>(d), Size(e),
                                       static_cast<unsigned>(f)),
             true;
    case SYS_sendfile:
      return *result = by_name::sendfile(Int(a), Int(b), To<off_t>(c), Size(d)), true;
    case SYS_flock:
      return *result = by_name::flock(Int(a), Int(b)), true;
    case SYS_fcntl:
      return *result = by_name::fcntl(Int(a), Int(b), To<void>(c)), true;
    case SYS_ioctl:
      return *result = by_name::ioctl(Int(a), static_cast<unsigned long>(b), To<void>(c)), true;
    case SYS_syncfs:
      return *result = by_name::syncfs(Int(a)), true;
    case SYS_mmap:
      return *result = Address(by_name::mmap(To<void>(a), Size(b), Int(c), Int(d), Int(e), f)), true;
    case SYS_mremap:
      return *result = Address(by_name::mremap(To<void>(a), Size(b), Size(c), Int(d), To<void>(e))), true;
    case SYS_munmap:
      return *result = by_name::munmap(To<void>(a), Size(b)), true;
    case SYS_msync:
      return *result = by_name::msync(To<void>(a), Size(b), Int(c)), true;
    case SYS_close_range:
      return *result = by_name::close_range(static_cast<unsigned>(a), static_cast<unsigned>(b), Int(c)), true;
    default:
      return false;
  }
}

#ifdef __x86_64__
// Those that newer architectures have with a directory only.
bool OfPath(long number, long a, long b, long c, long* result) {
  switch (number) {
    case SYS_open:
      return *result = by_name::open(Path(a), Int(b), Mode(c)), true;
    case SYS_creat:
      return *result = by_name::creat(Path(a), Mode(b)), true;
    case SYS_stat:
      return *result = by_name::stat(Path(a), To<struct stat>(b)), true;
    case SYS_lstat:
      return *result = by_name::lstat(Path(a), To<struct stat>(b)), true;
    case SYS_access:
      return *result = by_name::access(Path(a), Int(b)), true;
    case SYS_mkdir:
      return *result = by_name::mkdir(Path(a), Mode(b)), true;
    case SYS_rmdir:
      return *result = by_name::rmdir(Path(a)), true;
    case SYS_mknod:
      return *result = by_name::mknod(Path(a), Mode(b), Size(c)), true;
    case SYS_unlink:
      return *result = by_name::unlink(Path(a)), true;
    case SYS_rename:
      return *result = by_name::rename(Path(a), Path(b)), true;
    case SYS_link:
      return *result = by_name::link(Path(a), Path(b)), true;
    case SYS_symlink:
      return *result = by_name::symlink(Path(a), Path(b)), true;
    case SYS_readlink:
      return *result = by_name::readlink(Path(a), To<char>(b), Size(c)), true;
    case SYS_chmod:
      return *result = by_name::chmod(Path(a), Mode(b)), true;
    case SYS_chown:
      return *result = by_name::chown(Path(a), Id(b), Id(c)), true;
    case SYS_lchown:
      return *result = by_name::lchown(Path(a), Id(b), Id(c)), true;
    case SYS_utime:
      return *result = by_name::utime(Path(a), To<utimbuf>(b)), true;
    case SYS_utimes:
      return *result = by_name::utimes(Path(a), To<timeval>(b)), true;
    case SYS_futimesat:
      return *result = by_name::futimesat(Int(a), Path(b), To<timeval>(c)), true;
    case SYS_dup2:
      return *result = by_name::dup2(Int(a), Int(b)), true;
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
    case SYS_execve:
      return *result = by_name::execve(Path(a), To<char* const>(b), To<char* const>(c)), true;
    case SYS_execveat:
      return *result = by_name::execveat(Int(a), Path(b), To<char* const>(c), To<char* const>(d), Int(e)),
             true;
    case SYS_openat:
      return *result = by_name::openat(Int(a), Path(b), Int(c), Mode(d)), true;
    case SYS_newfstatat:
      return *result = by_name::fstatat(Int(a), Path(b), To<struct stat>(c), Int(d)), true;
    case SYS_statx:
      return *result = by_name::statx(Int(a), Path(b), Int(c), static_cast<unsigned>(d), To<struct statx>(e)),
             true;
    case SYS_faccessat:
      return *result = by_name::faccessat(Int(a), Path(b), Int(c), 0), true;
    case SYS_faccessat2:
      return *result = by_name::faccessat(Int(a), Path(b), Int(c), Int(d)), true;
    case SYS_mkdirat:
      return *result = by_name::mkdirat(Int(a), Path(b), Mode(c)), true;
    case SYS_mknodat:
      return *result = by_name::mknodat(Int(a), Path(b), Mode(c), Size(d)), true;
    case SYS_unlinkat:
      return *result = by_name::unlinkat(Int(a), Path(b), Int(c)), true;
    case SYS_renameat:
      return *result = by_name::renameat(Int(a), Path(b), Int(c), Path(d)), true;
    case SYS_renameat2:
      return *result = by_name::renameat2(Int(a), Path(b), Int(c), Path(d), static_cast<unsigned>(e)), true;
    case SYS_linkat:
      return *result = by_name::linkat(Int(a), Path(b), Int(c), Path(d), Int(e)), true;
    case SYS_symlinkat:
      return *result = by_name::symlinkat(Path(a), Int(b), Path(c)), true;
    case SYS_readlinkat:
      return *result = by_name::readlinkat(Int(a), Path(b), To<char>(c), Size(d)), true;
    case SYS_fchmodat:
      return *result = by_name::fchmodat(Int(a), Path(b), Mode(c), 0), true;
    case SYS_fchownat:
      return *result = by_name::fchownat(Int(a), Path(b), Id(c), Id(d), Int(e)), true;
    case SYS_utimensat:
      if (b == 0 && Int(a) == AT_FDCWD) return false;
      if (b == 0) return *result = by_name::futimens(Int(a), To<timespec>(c)), true;
      return *result = by_name::utimensat(Int(a), Path(b), To<timespec>(c), Int(d)), true;
    case SYS_truncate:
      return *result = by_name::truncate(Path(a), b), true;
    case SYS_chdir:
      return *result = by_name::chdir(Path(a)), true;
    case SYS_statfs:
      return *result = by_name::statfs(Path(a), To<struct statfs>(b)), true;
    case SYS_inotify_add_watch:
      return *result = by_name::inotify_add_watch(Int(a), Path(b), static_cast<uint32_t>(c)), true;
    default:
      return false;
  }
}

bool OfAttribute(long number, long a, long b, long c, long d, long e, long* result) {
  switch (number) {
    case SYS_getxattr:
      return *result = by_name::getxattr(Path(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_lgetxattr:
      return *result = by_name::lgetxattr(Path(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_fgetxattr:
      return *result = by_name::fgetxattr(Int(a), Path(b), To<void>(c), Size(d)), true;
    case SYS_setxattr:
      return *result = by_name::setxattr(Path(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_lsetxattr:
      return *result = by_name::lsetxattr(Path(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_fsetxattr:
      return *result = by_name::fsetxattr(Int(a), Path(b), To<void>(c), Size(d), Int(e)), true;
    case SYS_listxattr:
      return *result = by_name::listxattr(Path(a), To<char>(b), Size(c)), true;
    case SYS_llistxattr:
      return *result = by_name::llistxattr(Path(a), To<char>(b), Size(c)), true;
    case SYS_flistxattr:
      return *result = by_name::flistxattr(Int(a), To<char>(b), Size(c)), true;
    case SYS_removexattr:
      return *result = by_name::removexattr(Path(a), Path(b)), true;
    case SYS_lremovexattr:
      return *result = by_name::lremovexattr(Path(a), Path(b)), true;
    case SYS_fremovexattr:
      return *result = by_name::fremovexattr(Int(a), Path(b)), true;
    default:
      return false;
  }
}

// The call answers the length with the final zero; libc the buffer, or a longer one.
long CurrentDirectory(char* buffer, size_t size) {
  return by_name::getcwd(buffer, size) == nullptr ? -1 : static_cast<long>(strlen(buffer)) + 1;
}

// With limits to where it may lead, a mapped path is none that this can be said of.
bool OpenAsTold(int directory, const char* path, const open_how* how, long* result) {
  MappedPath at;
  if (how == nullptr || !FindMapped(directory, path, &at)) return false;
  if (how->resolve == 0)
    return *result =
               by_name::openat(directory, path, static_cast<int>(how->flags), static_cast<mode_t>(how->mode)),
           true;
  errno = ENOSYS;
  return *result = -1, true;
}

bool OfQueues(long number, long a, long b, long c, long* result) {
  switch (number) {
    case SYS_io_submit:
      *result = SubmitAsynchronous(static_cast<unsigned long>(a), b, To<struct iocb*>(c));
      if (*result >= 0) return true;
      errno = static_cast<int>(-*result);
      return *result = -1, true;
    case SYS_io_uring_setup:
      errno = ENOSYS;
      return *result = -1, true;
    default:
      return false;
  }
}

}  // namespace

bool FileSyscall(long number, long a, long b, long c, long d, long e, long f, long* result) {
  if (OfDescriptor(number, a, b, c, d, result) || OfParts(number, a, b, c, d, f, result) ||
      BetweenDescriptors(number, a, b, c, d, e, f, result))
    return true;
  if (!HasMaps()) return false;
  if (number == SYS_getcwd && To<char>(a) != nullptr)
    return *result = CurrentDirectory(To<char>(a), Size(b)), true;
  if (number == SYS_openat2) return OpenAsTold(Int(a), Path(b), To<open_how>(c), result);
  return OfQueues(number, a, b, c, result) || OfPath(number, a, b, c, result) ||
         SeenFromDirectory(number, a, b, c, d, e, result) || OfAttribute(number, a, b, c, d, e, result);
}

}  // namespace elsewhere::preload
