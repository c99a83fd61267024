// mmap and its kin: MAP_SHARED mappings become known, anonymous ones get an object that can be handed on.
#include "preload/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/abi.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kPage = 4096;

size_t RoundUp(size_t size) {
  return (size + kPage - 1) / kPage * kPage;
}

// ftruncate beyond RLIMIT_FSIZE is a SIGXFSZ, which an anonymous mapping would never raise.
bool FitsFileLimit(size_t size) {
  struct rlimit limit {};
  raw::Syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, raw::Address(&limit));
  return limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

// A duplicate of ours, out of the way of the program's numbers; -1: none is to be had. At most a quarter of
// the numbers that the limit allows, and none of the last quarter: the way to the agent needs some.
int Keep(int descriptor) {
  struct rlimit limit {};
  raw::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, raw::Address(&limit));
  const uint64_t first =
      limit.rlim_cur >= 4 * abi::kFirstOwnDescriptor ? abi::kFirstOwnDescriptor : limit.rlim_cur / 2;
  const long copy = raw::Syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, raw::Word(first));
  if (raw::Failed(copy)) return -1;
  if (static_cast<uint64_t>(copy) >= limit.rlim_cur / 4 * 3) {
    raw::Close(static_cast<int>(copy));
    return -1;
  }
  MarkOwn(static_cast<int>(copy));
  return static_cast<int>(copy);
}

// An object of `size` bytes for an anonymous shared mapping, at a number of ours; negative: there is none to
// be had.
int MakeObject(size_t size) {
  if (!FitsFileLimit(size)) return -1;
  const long made =
      raw::Syscall(SYS_memfd_create, raw::Address("elsewhere-shared"), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (raw::Failed(made)) return -1;
  const int descriptor = Keep(static_cast<int>(made));
  raw::Close(static_cast<int>(made));
  if (descriptor < 0) return -1;
  if (raw::Failed(raw::Syscall(SYS_ftruncate, descriptor, raw::Word(size)))) {
    CloseOwn(descriptor);
    return -1;
  }
  raw::Syscall(SYS_fcntl, descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
  return descriptor;
}

bool MayLoseItsPath(int descriptor, const struct stat& status) {
  if (status.st_nlink == 0) return true;
  struct statfs system {};
  return !raw::Failed(raw::Syscall(SYS_fstatfs, descriptor, raw::Address(&system))) &&
         system.f_type == TMPFS_MAGIC;
}

// On a worker an object without a name may stand for one of home's: what lies in it is known by that.
void FindAtHome(const struct stat& status, SharedPlace* place) {
  if (!OnWorker() || status.st_nlink != 0) return;
  const int before = errno;
  uint64_t object[2];
  if (CallAgent(abi::Operation::kSegmentPlace,
                {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino)},
                {nullptr, 0, object, sizeof object}) == 0) {
    place->host = 0;
    place->device = object[0];
    place->inode = object[1];
  }
  errno = before;
}

void Register(void* start, size_t size, off_t offset, int descriptor, const struct stat& status) {
  const auto at = reinterpret_cast<uintptr_t>(start);
  SharedPlace place{self.host.load(std::memory_order_relaxed), status.st_dev, status.st_ino,
                    static_cast<uint64_t>(offset)};
  FindAtHome(status, &place);
  registry::Add({at, at + RoundUp(size), place, descriptor});
}

void* MapAnonymous(void* address, size_t size, int protection, int flags) {
  const int descriptor = MakeObject(RoundUp(size));
  struct stat status {};
  if (descriptor < 0 || raw::Failed(raw::Syscall(SYS_fstat, descriptor, raw::Address(&status)))) {
    // Nothing of it can be handed on: children of this process will run at home.
    return real::mmap(address, size, protection, flags, -1, 0);
  }
  void* start = real::mmap(address, size, protection, flags & ~MAP_ANONYMOUS, descriptor, 0);
  if (start == MAP_FAILED) {
    const int error = errno;
    CloseOwn(descriptor);
    errno = error;
    return start;
  }
  Register(start, size, 0, descriptor, status);
  return start;
}

void* MapFile(void* address, size_t size, int protection, int flags, int descriptor, off_t offset) {
  void* start = real::mmap(address, size, protection, flags, descriptor, offset);
  struct stat status {};
  if (start == MAP_FAILED || raw::Failed(raw::Syscall(SYS_fstat, descriptor, raw::Address(&status))) ||
      !S_ISREG(status.st_mode)) {
    return start;
  }
  const int kept = !OnWorker() && MayLoseItsPath(descriptor, status) ? Keep(descriptor) : -1;
  Register(start, size, offset, kept, status);
  return start;
}

bool IsShared(int flags) {
  const int type = flags & MAP_TYPE;
  return type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
}

}  // namespace

namespace hooks {

void* mmap(void* address, size_t size, int protection, int flags, int descriptor, off_t offset) {
  if (IsMappedFile(descriptor) && (flags & MAP_ANONYMOUS) == 0) {
    if (!BeforeMapping(descriptor, size, protection, flags, offset)) return MAP_FAILED;
    return real::mmap(address, size, protection, flags, descriptor, offset);
  }
  if (IsOutputFile(descriptor) && (flags & MAP_ANONYMOUS) == 0)
    return output::mmap(address, size, protection, flags, descriptor, offset);
  if (!(self.in_session || self.may_start_session) || InVforkChild())
    return real::mmap(address, size, protection, flags, descriptor, offset);
  if (!IsShared(flags)) {  // MAP_FIXED over what may be a shared mapping
    void* start = real::mmap(address, size, protection, flags, descriptor, offset);
    if (start != MAP_FAILED && MayBeShared(start, size)) {
      registry::Remove(reinterpret_cast<uintptr_t>(start),
                       reinterpret_cast<uintptr_t>(start) + RoundUp(size));
    }
    return start;
  }
  if ((flags & MAP_ANONYMOUS) == 0) return MapFile(address, size, protection, flags, descriptor, offset);
  // Objects made on a worker are shared on that worker only: nested children stay with their parent.
  const bool stays_here = OnWorker() || !self.fork_remote || (flags & MAP_HUGETLB) != 0;
  if (stays_here || size == 0) return real::mmap(address, size, protection, flags, descriptor, offset);
  return MapAnonymous(address, size, protection, flags);
}

int munmap(void* start, size_t size) {
  if (InVforkChild()) return real::munmap(start, size);
  const auto at = reinterpret_cast<uintptr_t>(start);
  // Forgotten first: another thread may be given the same addresses as soon as they are free.
  if (at % kPage == 0 && size != 0 && size < UINTPTR_MAX - at) registry::Remove(at, at + RoundUp(size));
  return real::munmap(start, size);
}

void* mremap(void* start, size_t size, size_t new_size, int flags, void* wanted) {
  void* moved = real::mremap(start, size, new_size, flags, wanted);
  if (moved == MAP_FAILED || InVforkChild()) return moved;
  const auto from = reinterpret_cast<uintptr_t>(start);
  const auto to = reinterpret_cast<uintptr_t>(moved);
  registry::Move(from, from + RoundUp(size), to, to + RoundUp(new_size));
  return moved;
}

}  // namespace hooks
}  // namespace elsewhere::preload
