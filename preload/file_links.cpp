// Functions that say what a name leads to: readlink, realpath. What the kernel answers about the host's own
// trees and local files is given as the program knows it.
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/process_files.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

using abi::FileOperation;

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
  if (!IsReadable(path)) return real::readlinkat(directory, path, buffer, room);
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
        if (!CopyProgramMemory(SYS_process_vm_writev, call->answer.text, buffer, length)) return -1;
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

}  // namespace

namespace hooks {

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
  if (!FindMapped(AT_FDCWD, path, &at)) {
    char* local = real::realpath(at.left ? at.path : path, resolved);
    if (local != nullptr || errno != ENOENT || !FindBehindLinks(AT_FDCWD, path, &at)) return local;
  }
  char text[PATH_MAX];
  const int result = OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& place, FileCall* call) {
        if (Ask(FileOperation::kResolve)(place, call) < 0) return -1;
        memcpy(text, call->answer.text, strlen(call->answer.text) + 1);
        return 0;
      },
      [&](int, const char* name) { return real::realpath(name, text) == nullptr ? -1 : 0; });
  if (result < 0) return nullptr;
  return resolved == nullptr ? strdup(text) : static_cast<char*>(memcpy(resolved, text, strlen(text) + 1));
}
char* __realpath_chk(const char* path, char* resolved, size_t room) {
  if (room < PATH_MAX) BufferTooSmall();
  return hooks::realpath(path, resolved);
}
char* canonicalize_file_name(const char* path) {
  return hooks::realpath(path, nullptr);
}

}  // namespace hooks
}  // namespace elsewhere::preload
