// The descriptors that the calling process has open, as /proc/self/fd lists them. By raw system calls and
// without memory of the heap, so also where libc is in an unknown state. Thread-safety: any thread.
#pragma once

#include <dirent.h>
#include <fcntl.h>

#include "shim/wire/raw_syscall.h"

namespace elsewhere {

// Of an entry of /proc/self/fd; -1: it is no descriptor ("." and "..").
inline int DescriptorNamed(const char* name) {
  if (*name < '0' || *name > '9') return -1;
  int number = 0;
  for (; *name >= '0' && *name <= '9'; ++name) number = number * 10 + (*name - '0');
  return number;
}

// Calls `visit(fd)` for each, in ascending order, but not for the one that is opened to list them. Nothing is
// visited where /proc is missing.
template <class Visit>
void ForEachDescriptor(Visit visit) {
  const long listing =
      raw::Syscall(SYS_open, raw::Address("/proc/self/fd"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (raw::Failed(listing)) return;
  alignas(dirent) char buffer[4096];
  for (;;) {
    const long size = raw::Syscall(SYS_getdents64, listing, raw::Address(buffer), sizeof buffer);
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent*>(buffer + at);  // what getdents64 gives, on x86-64
      const int fd = DescriptorNamed(entry->d_name);
      if (fd >= 0 && fd != listing) visit(fd);
      at += entry->d_reclen;
    }
  }
  raw::Close(static_cast<int>(listing));
}

}  // namespace elsewhere
