// dlopen of a library that lies in a mapped directory, which libc opens by itself: it is given a copy in
// memory, by the name of a descriptor of ours.
//
// Libc takes two libraries of one name for the same, so a version of a library keeps its number for as long
// as the process lives, and no other gets it: also on another host, where the descriptors are gone and made
// again under their numbers. Libraries that such a library needs are libc's own business.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "preload/descriptor.h"
#include "preload/file_exec.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kMostLibraries = 256;
constexpr rlim_t kUsualLimit = 1024;

struct Library {
  uint64_t version;
  int number;
  char name[28];
};
constinit Library libraries[kMostLibraries] = {};
constinit size_t library_count = 0;
constinit std::atomic_flag busy = ATOMIC_FLAG_INIT;

uint64_t VersionOf(int fd) {
  struct stat status;
  if (StatusOfFile(fd, &status) != 0) return 0;
  uint64_t hash = 14695981039346656037ull;
  for (const uint64_t word :
       {uint64_t{status.st_dev}, uint64_t{status.st_ino}, static_cast<uint64_t>(status.st_size),
        static_cast<uint64_t>(status.st_mtim.tv_sec), static_cast<uint64_t>(status.st_mtim.tv_nsec)})
    hash = (hash ^ word) * 1099511628211ull;
  return hash;
}

// Behind the last one that was given out, so that none comes twice.
int NextNumber() {
  if (library_count > 0) return libraries[library_count - 1].number + 1;
  rlimit limit{};
  const bool known = raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit)) == 0;
  return static_cast<int>((known && limit.rlim_cur < kUsualLimit ? limit.rlim_cur : kUsualLimit) / 2);
}

bool Keep(Library* library, int fd) {
  const bool again = library->number != 0;
  const long number = raw::Syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, again ? library->number : NextNumber());
  if (number < 0) return false;
  library->number = static_cast<int>(number);
  snprintf(library->name, sizeof library->name, "/proc/self/fd/%d", library->number);
  MarkOwn(library->number);
  return true;
}

const char* NameOf(int fd) {
  const uint64_t version = VersionOf(fd);
  Library* library = libraries;
  while (library < libraries + library_count && library->version != version) ++library;
  if (library < libraries + library_count && IsOwn(library->number) &&
      raw::Syscall(SYS_fcntl, library->number, F_GETFD) >= 0)
    return library->name;
  if (library == libraries + kMostLibraries || !MakeWhole(fd, false)) return nullptr;
  const int copy = CopyInMemory(fd);
  if (copy < 0) return nullptr;
  const bool kept = Keep(library, copy);
  raw::Close(copy);
  if (!kept) return nullptr;
  library->version = version;
  if (library == libraries + library_count) ++library_count;
  return library->name;
}

}  // namespace

// `file`, or what libc has to open in its place. Called by dlopen.S.
const char* MappedLibrary(const char* file) {
  MappedPath at;
  if (file == nullptr || strchr(file, '/') == nullptr || !FindMapped(AT_FDCWD, file, &at)) return file;
  const int before = errno;
  const int fd = OpenIfMapped(AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
  const char* name = nullptr;
  if (fd >= 0) {
    while (busy.test_and_set(std::memory_order_acquire)) raw::Syscall(SYS_sched_yield);
    name = NameOf(fd);
    busy.clear(std::memory_order_release);
    SetKind(fd, DescriptorKind::kNothing);
    raw::Close(fd);
  }
  errno = before;
  return name != nullptr ? name : file;
}

}  // namespace elsewhere::preload
