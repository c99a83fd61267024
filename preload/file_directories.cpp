// The current directory, listings, and stdio's own ways of opening and closing.
//
// A mapped directory that is listed or entered is the one in the host's tree; libc's readdir and the kernel
// do the rest. Functions in which libc opens directories without a hook are given ours (glob) or the tree's
// (scandir).
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/kernel_lock.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

// In `to`, which has kPathSize bytes: the current directory as the program knows it, if it is mapped.
bool MappedCurrent(char* to, size_t* size) {
  char path[kPathSize];
  const long length = raw::Syscall(SYS_getcwd, raw::Address(path), sizeof path);
  if (length <= 1 || !FromTree(path, static_cast<size_t>(length) - 1, to, kPathSize - 1, size)) return false;
  to[*size] = '\0';
  return true;
}

dirent* ReadForGlob(void* directory) {
  return real::readdir(static_cast<DIR*>(directory));
}
void CloseForGlob(void* directory) {
  real::closedir(static_cast<DIR*>(directory));
}
void* OpenForGlob(const char* path) {
  return hooks::opendir(path);
}

}  // namespace

namespace hooks {

int chdir(const char* path) {
  ProcessPath process;
  if (FindProcess(AT_FDCWD, path, &process)) path = process.path;
  return OnPath(
      AT_FDCWD, path,
      [](const MappedPath& at, FileCall* call) {
        call->operation = abi::FileOperation::kEnter;
        if (CallFile(at, call) < 0) return -1;
        const int result = real::chdir(call->answer.text);
        if (result == 0) NoteDirectory();
        return result;
      },
      [](int, const char* name) {
        const int result = real::chdir(name);
        if (result == 0 && HasMaps()) NoteDirectory();
        return result;
      });
}

int fchdir(int fd) {
  const int result = real::fchdir(fd);
  if (result == 0) NoteDirectory();
  return result;
}

char* getcwd(char* buffer, size_t size) {
  char path[kPathSize];
  size_t length;
  if (!MappedCurrent(path, &length)) return real::getcwd(buffer, size);
  if (buffer != nullptr && size == 0) {
    errno = EINVAL;
    return nullptr;
  }
  if ((buffer != nullptr || size != 0) && size <= length) {
    errno = ERANGE;
    return nullptr;
  }
  if (buffer == nullptr) return strdup(path);
  return CopyProgramMemory(SYS_process_vm_writev, path, buffer, length + 1) ? buffer : nullptr;
}
char* __getcwd_chk(char* buffer, size_t size, size_t room) {
  if (size > room) return real::__getcwd_chk(buffer, size, room);
  return hooks::getcwd(buffer, size);
}
char* get_current_dir_name() {
  char path[kPathSize];
  size_t length;
  return MappedCurrent(path, &length) ? hooks::getcwd(nullptr, 0) : real::get_current_dir_name();
}

DIR* opendir(const char* path) {
  bool handled;
  DIR* process = OpenProcessDirectory(path, &handled);
  if (handled) return process;
  if (!HasMaps()) return real::opendir(path);
  // What of a mapped directory leads elsewhere comes back as a descriptor, too.
  int fd = OpenIfMapped(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd == -2) {
    DIR* local = real::opendir(path);
    if (local != nullptr || errno != ENOENT) return local;
    fd = hooks::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);  // behind links
  }
  if (fd < 0) return nullptr;
  DIR* directory = real::fdopendir(fd);
  if (directory == nullptr) hooks::close(fd);
  return directory;
}

int scandir(const char* path, struct dirent*** names, scan_filter wanted, scan_compare compare) {
  MappedPath at;
  if (!FindMapped(AT_FDCWD, path, &at))
    return real::scandir(at.left ? at.path : path, names, wanted, compare);
  const int fd = OpenIfMapped(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return -1;
  char listed[32];
  snprintf(listed, sizeof listed, "/proc/self/fd/%d", fd);
  const int result = real::scandir(listed, names, wanted, compare);
  const int error = errno;
  hooks::close(fd);
  errno = error;
  return result;
}

int glob(const char* pattern, int flags, glob_error failed, glob_t* found) {
  if ((flags & GLOB_ALTDIRFUNC) != 0) return real::glob(pattern, flags, failed, found);
  found->gl_opendir = OpenForGlob;
  found->gl_readdir = ReadForGlob;
  found->gl_closedir = CloseForGlob;
  found->gl_stat = hooks::stat;
  found->gl_lstat = hooks::lstat;
  return real::glob(pattern, flags | GLOB_ALTDIRFUNC, failed, found);
}

int fclose(FILE* stream) {
  const int fd = fileno(stream);
  if (HoldsKernelLock(fd)) KernelLockCloses(fd);
  if (!IsMappedFile(fd)) return real::fclose(stream);
  const int written = real::fflush(stream);
  const int error = errno;
  const int stored = FileCloses(fd);
  const int stored_error = errno;
  const int closed = real::fclose(stream);
  if (written != 0) errno = error;
  if (stored != 0) errno = stored_error;
  return written != 0 || stored != 0 ? EOF : closed;
}

}  // namespace hooks
}  // namespace elsewhere::preload
