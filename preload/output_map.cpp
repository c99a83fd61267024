// Mapping files that are read and written at home.
//
// Home makes the file a shared segment (runtime/ipc), this worker joins it, and the process maps this host's
// copy. Reads and writes through descriptors stay calls at home, and both are one: whatever a process of this
// host stored goes out before its next call, and what a call changed comes before its answer. Only what is
// written into the local pipe has no answer; from the first mapping on such writes wait until they are in
// (AwaitWritten).
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "preload/agent.h"
#include "preload/hooks.h"
#include "preload/memory.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kPage = 4096;

// A descriptor of this host's copy; negative: -errno.
int FetchCopy(int fd, bool read_only, wire::SharedFile* file) {
  bool stranger;
  if (CallAtOrigin(fd, wire::StreamCall::kShare, {SessionPid()}, {nullptr, 0, file, sizeof *file},
                   &stranger) < 0)
    return stranger ? -EBADF : -errno;
  const int64_t token = CallAgent(abi::Operation::kSegmentOfFile, {read_only ? 1 : 0}, {file, sizeof *file});
  return token < 0 ? -errno : FetchDescriptor(static_cast<uint64_t>(token));
}

// What the kernel would say of the file's own descriptor before it says anything of the rest; 0: nothing.
int WhyNot(size_t size, int protection, bool shared, int access, off_t offset) {
  if (size == 0 || offset % static_cast<off_t>(kPage) != 0) return EINVAL;
  if (access == O_WRONLY) return EACCES;
  return shared && (protection & PROT_WRITE) != 0 && access != O_RDWR ? EACCES : 0;
}

void* Fail(int error) {
  errno = error;
  return MAP_FAILED;
}

}  // namespace

void AwaitWritten(int fd) {
  const abi::Table* const table = AgentTable();
  if (table == nullptr || table->header.files_mapped.load(std::memory_order_relaxed) == 0) return;
  const int before = errno;
  bool stranger;
  CallAtOrigin(fd, wire::StreamCall::kControl, {F_GETFL}, {}, &stranger);
  errno = before;
}

namespace output {

void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  const int before = errno;
  const int status = hooks::fcntl(fd, F_GETFL, nullptr);
  if (status < 0) return MAP_FAILED;
  const int access = status & O_ACCMODE;
  if (const int error = WhyNot(size, protection, shared, access, offset); error != 0) return Fail(error);
  wire::SharedFile file{};
  const int copy = FetchCopy(fd, access == O_RDONLY, &file);
  if (copy < 0) return Fail(-copy);
  void* const start = real::mmap(address, size, protection, flags, copy, offset);
  const int error = start == MAP_FAILED ? errno : before;
  raw::Close(copy);
  errno = error;
  if (start == MAP_FAILED) return start;
  const auto at = reinterpret_cast<uintptr_t>(start);
  const uintptr_t end = at + (size + kPage - 1) / kPage * kPage;
  if (shared) {
    registry::Add({at, end, {0, file.device, file.inode, static_cast<uint64_t>(offset)}, -1});
  } else if (MayBeShared(start, size)) {
    registry::Remove(at, end);
  }
  return start;
}

}  // namespace output
}  // namespace elsewhere::preload
