// Files that are written at home, where the program holds what is locally a pipe
// (DescriptorKind::kOutputFile).
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "preload/descriptor.h"

namespace elsewhere::preload {

inline bool IsOutputFile(int fd) {
  return KindOf(fd) == DescriptorKind::kOutputFile;
}

// `fd` was just opened by a name that led to the local pipe of `of` (/dev/stdout, /proc/self/fd/1): the file
// itself is opened in its place, as natively, and `*fd` is what open returns. False: it stays what it is.
bool OpenOutputFile(int* fd, int of, int flags);

// Record locks of this process: fcntl's commands.
int LockOutputFile(int fd, int command, struct flock* lock);
// A lock that belongs to the description (F_OFD_*), which is another host's. False: it is this one's.
bool LockAtOrigin(int* result, int fd, int command, struct flock* lock);
inline bool IsRecordLock(int command) {
  return command == F_GETLK || command == F_SETLK || command == F_SETLKW || command == F_OFD_GETLK ||
         command == F_OFD_SETLK || command == F_OFD_SETLKW;
}
inline bool IsDescriptionLock(int command) {
  return command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}
// `fd` is about to be closed or replaced.
void OutputFileCloses(int fd);
// In another process: they are not its own. `close`: the descriptors are there.
void ForgetOutputLocks(bool close);

// Libc's functions of these names on such a file; anything else goes to libc.
namespace output {
ssize_t read(int fd, void* buffer, size_t size);
ssize_t pread(int fd, void* buffer, size_t size, off_t offset);
ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room);
ssize_t preadv(int fd, const iovec* parts, int count, off_t offset);
ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags);
FILE* fdopen(int fd, const char* mode);
// This host's copy of the file, which becomes shared memory (runtime/ipc/segments.h).
void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset);
ssize_t pwrite(int fd, const void* buffer, size_t size, off_t offset);
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset);
ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags);
ssize_t copy_file_range(int from, off64_t* offset, int fd, off64_t* to_offset, size_t size, unsigned flags);
int fsync(int fd);
int fdatasync(int fd);
int ftruncate(int fd, off_t size);
int fallocate(int fd, int mode, off_t offset, off_t size);
int posix_fallocate(int fd, off_t offset, off_t size);
int fchmod(int fd, mode_t mode);
int fchown(int fd, uid_t user, gid_t group);
int futimens(int fd, const timespec* times);
int statx(int directory, const char* path, int flags, unsigned mask, struct statx* status);
ssize_t fgetxattr(int fd, const char* name, void* value, size_t size);
int fsetxattr(int fd, const char* name, const void* value, size_t size, int flags);
ssize_t flistxattr(int fd, char* list, size_t size);
int fremovexattr(int fd, const char* name);
int fstatfs(int fd, struct statfs* status);
int fstatvfs(int fd, struct statvfs* status);
}  // namespace output

}  // namespace elsewhere::preload
