// madvise(MADV_DONTNEED) in a restored process.
//
// Anonymous memory that was restored is a private mapping of the file that holds its chunks. Discarding it
// must give zeros; the kernel would give the chunk's bytes again, and allocators (jemalloc, the Go and Java
// heaps) rely on zeros. So what is mapped from such a file is replaced by anonymous memory. The kernel's own
// list of mappings says what is where: a program may since have mapped something else at the same place.
// Libc's own calls do not come here; it does not rely on zeros after MADV_DONTNEED.
#include "preload/memory_discard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit image::MappedFile mapped_files[kMappedFiles] = {};

namespace {

constexpr size_t kPage = 4096;

struct Mapping {
  uint64_t start, end;
  int protection;
  bool is_private;
  uint64_t device, inode;
};

uint64_t TakeNumber(const char** text, uint64_t base) {
  uint64_t value = 0;
  for (;; ++*text) {
    const char c = **text;
    const bool letter = base == 16 && c >= 'a' && c <= 'f';
    if (!letter && (c < '0' || c > '9')) return value;
    value = value * base + static_cast<uint64_t>(letter ? c - 'a' + 10 : c - '0');
  }
}

// A line of /proc/self/maps (proc(5)) up to the inode.
Mapping Parse(const char* text) {
  Mapping mapping{};
  mapping.start = TakeNumber(&text, 16);
  mapping.end = TakeNumber(&++text, 16);
  ++text;
  mapping.protection =
      (text[0] == 'r' ? PROT_READ : 0) | (text[1] == 'w' ? PROT_WRITE : 0) | (text[2] == 'x' ? PROT_EXEC : 0);
  mapping.is_private = text[3] == 'p';
  text += 5;
  TakeNumber(&text, 16);
  const auto major = static_cast<unsigned>(TakeNumber(&++text, 16));
  const auto minor = static_cast<unsigned>(TakeNumber(&++text, 16));
  mapping.device = makedev(major, minor);
  mapping.inode = TakeNumber(&++text, 10);
  return mapping;
}

bool IsRestored(const Mapping& mapping) {
  if (!mapping.is_private || mapping.inode == 0) return false;
  for (const image::MappedFile& file : mapped_files) {
    if (file.inode == 0) return false;
    if (file.inode == mapping.inode && file.device == mapping.device) return true;
  }
  return false;
}

// True if the line was one of restored memory in the range.
bool ReplaceLine(const char* line, uint64_t start, uint64_t end, bool discard) {
  const Mapping mapping = Parse(line);
  if (mapping.end <= start || mapping.start >= end || !IsRestored(mapping)) return false;
  if (!discard) return true;
  const uint64_t from = mapping.start > start ? mapping.start : start;
  const uint64_t to = mapping.end < end ? mapping.end : end;
  raw::Syscall(SYS_mmap, raw::Word(from), raw::Word(to - from), mapping.protection,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  return true;
}

// Replaces restored memory in the range by empty memory, or only looks for it. True if there was any. Lines
// are handled as they come; what lies beyond a path too long for the buffer is the path's rest and is
// skipped.
bool ForRestored(uint64_t start, uint64_t end, bool discard) {
  const long maps = raw::Syscall(SYS_open, raw::Address("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(maps)) return false;
  char text[2 * kPage] = {};
  size_t filled = 0;
  bool found = false;
  bool skipping = false;
  long got;
  while ((got = raw::Read(static_cast<int>(maps), text + filled, sizeof text - filled)) > 0) {
    filled += static_cast<size_t>(got);
    size_t line = 0;
    for (size_t at = 0; at < filled; ++at) {
      if (text[at] != '\n') continue;
      if (!skipping && ReplaceLine(text + line, start, end, discard)) found = true;
      skipping = false;
      line = at + 1;
    }
    if (line == 0 && filled == sizeof text) {
      if (!skipping && ReplaceLine(text, start, end, discard)) found = true;
      skipping = true;
      line = filled;
    }
    for (size_t at = line; at < filled; ++at) text[at - line] = text[at];
    filled -= line;
  }
  raw::Close(static_cast<int>(maps));
  return found;
}

}  // namespace

namespace hooks {

int madvise(void* start, size_t size, int advice) {
  const int before = errno;
  const int result = real::madvise(start, size, advice);
  const auto from = reinterpret_cast<uintptr_t>(start);
  if (InVforkChild() || from % kPage != 0 || size == 0 || size > UINTPTR_MAX - from - kPage) return result;
  const uint64_t to = from + ((size + kPage - 1) & ~(kPage - 1));
  // The kernel refuses MADV_FREE for mappings of files; keeping the contents is what it allows itself, too.
  const bool refused = result != 0 && errno == EINVAL && advice == MADV_FREE;
  if (result != 0 && !refused) return result;
  const bool found = ForRestored(from, to, advice == MADV_DONTNEED);
  if (!refused || !found) return result;
  errno = before;
  return 0;
}

}  // namespace hooks
}  // namespace elsewhere::preload
